package ring

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// It is compared with a slice over every interleaving of a small script.
func TestQueueIsFirstInFirstOut(t *testing.T) {
	const steps = 14
	for script := range 1 << steps {
		var q Queue[int]
		var want []int
		for step := range steps {
			if script>>step&1 == 1 || len(want) == 0 {
				q.Push(step)
				want = append(want, step)
			} else {
				require.Equal(t, want[0], q.Pop())
				want = want[1:]
			}
			require.Equal(t, len(want), q.Len())
			for i := range want {
				require.Equal(t, want[i], q.At(i))
			}
		}
	}
}

func TestQueueKeepsNoReferenceToWhatWasPopped(t *testing.T) {
	var q Queue[*int]
	q.Push(new(int))
	q.Pop()
	require.Nil(t, q.items[0])
}

func TestQueueAllocatesNothingOnceGrown(t *testing.T) {
	var q Queue[int]
	for i := range 8 {
		q.Push(i)
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { q.Push(q.Pop()) }))
}

func TestQueuePanicsWhenEmpty(t *testing.T) {
	var q Queue[int]
	require.Panics(t, func() { q.Pop() })
}
