package raftwire

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// RefusalEvent promises that a reason has the name of the field that counts it.
func TestEveryReasonHasTheNameOfItsCounter(t *testing.T) {
	for why := notRefused + 1; why < reasons; why++ {
		var r refusals
		r.count(why, "a", nil)
		field := reflect.ValueOf(r.counted()).FieldByName(why.String())
		require.True(t, field.IsValid(), "reason %d is called %q, which is no field of Refusals", why, why)
		require.EqualValues(t, 1, field.Uint(), why)
	}
}
