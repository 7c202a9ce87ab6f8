package runtimeapi

import "syscall"

// attributes make a process lead a group and die with this program. The kernel looks at the thread that started it, and Go ends
// no thread that a goroutine without a lock on it ran on.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
