package postgres

import "syscall"

// endWithParent has the program end when the tests are killed.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
