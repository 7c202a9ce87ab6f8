//go:build unix && !linux

package runtimeapi

import "syscall"

// attributes make a process lead a group.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
