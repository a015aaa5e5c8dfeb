package raftwire_test

import (
	"testing"
	"testing/synctest"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Over plain TCP an unused pipeline looks like a port scan: it ends, and its first
// future says so.
func TestFirstByteTimeout_EndsAnUnusedPipelineOverPlainTCP(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		p := openPipeline(t, a, "b")
		pause(2 * raftwire.DefaultFirstByteTimeout)
		require.Error(t, appendTo(p))
		require.NoError(t, appendTo(openPipeline(t, a, "b")))
		synctest.Wait() // a refusal is counted after the connection was closed
		require.Equal(t, raftwire.Refusals{Silent: 1}, b.Refusals())
	})
}
