package testnode

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// OpenSockets returns how many sockets the process has, where the system tells.
func OpenSockets() (count int) {
	descriptors, _ := filepath.Glob("/proc/self/fd/*")
	for _, path := range descriptors {
		if target, err := os.Readlink(path); err == nil && strings.HasPrefix(target, "socket:") {
			count++
		}
	}
	return count
}

// CheckLeaks fails the run if a goroutine of this module is left, or a new socket.
func CheckLeaks(sockets int) int {
	deadline := time.NewTimer(5 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	for {
		leaked, open := leakedGoroutines(), OpenSockets()-sockets
		if leaked == "" && open <= 0 {
			return 0
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			fmt.Fprintf(os.Stderr, "leaked %d sockets, and goroutines:\n%s\n", open, leaked)
			return 1
		}
	}
}

func leakedGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var leaked []string
	for _, stack := range strings.Split(string(buf), "\n\n")[1:] { // the first is this one
		if strings.Contains(stack, "raftwire") {
			leaked = append(leaked, stack)
		}
	}
	return strings.Join(leaked, "\n\n")
}
