//go:build unix

package runtimeapi

import "syscall"

// canMark says that files are marked as programs here.
const canMark = true

// Errors of signals are not looked at: the only one is that nobody is left to get them.

// kill ends the process and all that it started.
func (p *process) kill() { _ = syscall.Kill(-p.pid, syscall.SIGKILL) }

// freeze stops the process and all that it started.
func (p *process) freeze() { _ = syscall.Kill(-p.pid, syscall.SIGSTOP) }

// thaw lets them go on.
func (p *process) thaw() { _ = syscall.Kill(-p.pid, syscall.SIGCONT) }

// terminate asks the process to end.
func (p *process) terminate() { _ = syscall.Kill(p.pid, syscall.SIGTERM) }
