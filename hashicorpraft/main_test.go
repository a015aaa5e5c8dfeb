package hashicorpraft

import (
	"testing"

	"go.uber.org/goleak"
)

// Every test closes what it opened, and nothing may be left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
