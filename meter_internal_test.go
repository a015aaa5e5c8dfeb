package raftwire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// They are compared with a slice over every interleaving of a small script. The one
// that is offered and the one that was popped last are written to all the time.
func TestServingsStayWhereTheyAre(t *testing.T) {
	const steps = 14
	for script := range 1 << steps {
		var m meter
		m.shrink()
		var queued []int64
		m.offered.size = 0
		m.answered.size = -1
		answered := int64(-1)
		for step := range int64(steps) {
			if script>>step&1 == 1 || len(queued) == 0 {
				queued = append(queued, m.offered.size)
				m.push()
				m.offered.size = step + 1
			} else {
				m.pop()
				answered, queued = queued[0], queued[1:]
			}
			require.Equal(t, answered, m.answered.size)
			require.NotSame(t, m.offered, m.answered)
		}
		for _, size := range queued {
			m.pop()
			require.Equal(t, size, m.answered.size)
		}
	}
}
