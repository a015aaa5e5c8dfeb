//go:build linux || darwin

package main

import "syscall"

// raiseOpenFiles asks the system for n open files and returns how many the
// process may have. The runtime has asked for what any user may have already.
func raiseOpenFiles(n int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return n
	}
	if limit.Cur >= uint64(n) {
		return n
	}
	wanted := syscall.Rlimit{Cur: uint64(n), Max: max(limit.Max, uint64(n))}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &wanted) == nil {
		return n
	}
	limit.Cur = min(limit.Max, uint64(n)) // as far as it goes
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		return int(limit.Cur)
	}
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return int(limit.Cur)
}
