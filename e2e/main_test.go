package e2e

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// longRun is switched on by RAFTWIRE_LONG=1 in the environment.
var longRun = os.Getenv("RAFTWIRE_LONG") != ""

// Every test ends what it began, and nothing may be left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
