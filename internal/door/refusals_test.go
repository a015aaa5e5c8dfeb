package door

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// The transport promises that a reason has the name of the field that counts it.
func TestReason_HasTheNameOfItsCounter(t *testing.T) {
	for reason := NotRefused + 1; reason < reasons; reason++ {
		var r Refusals
		r.count(reason, "a", nil)
		field := reflect.ValueOf(r.Counts()).FieldByName(reason.String())
		require.True(t, field.IsValid(), "reason %d is called %q, which is no field of Counts", reason, reason)
		require.EqualValues(t, 1, field.Uint(), reason)
	}
}
