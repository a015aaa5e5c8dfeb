package main

import (
	"testing"

	"go.uber.org/goleak"
)

// No rival may leave a goroutine behind: it would be measured with the next one.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
