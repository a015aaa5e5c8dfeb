package door_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"testing"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/stretchr/testify/require"
)

// The transport promises that a reason has the name of the field that counts it.
func TestReason_HasTheNameOfItsCounter(t *testing.T) {
	for _, reason := range declaredReasons(t) {
		var r door.Refusals
		r.Add(reason)
		field := reflect.ValueOf(door.Counts[raftwire.Refusals](&r)).FieldByName(string(reason))
		require.True(t, field.IsValid(), "no field of Refusals is called %s", reason)
		require.EqualValues(t, 1, field.Uint(), reason)
	}
}

func declaredReasons(t *testing.T) (reasons []door.Reason) {
	file, err := parser.ParseFile(token.NewFileSet(), "refusals.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Reason" {
				text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				if text != "" {
					reasons = append(reasons, door.Reason(text))
				}
			}
		}
		return true
	})
	require.Len(t, reasons, 11)
	return reasons
}
