package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asProgram in the environment makes the test binary the program itself. Tests
// have it in theirs, so that a process that one of them starts runs no tests.
const asProgram = "RAFTBENCH_TEST_AS_PROGRAM"

// No rival may leave a goroutine behind: it would be measured with the next one.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	if err := os.Setenv(asProgram, "1"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}
