//go:build !unix

package runtimeapi

import "syscall"

// canMark says that files are marked as programs here.
const canMark = false

func attributes() *syscall.SysProcAttr { return nil }

// kill ends the process alone: there are no groups here.
func (p *process) kill() { _ = p.command.Process.Kill() }

// freeze and thaw do nothing, and terminate gives no time: there are no such signals here.
func (p *process) freeze()    {}
func (p *process) thaw()      {}
func (p *process) terminate() { p.kill() }
