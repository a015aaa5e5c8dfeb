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

func TestQueueKeepsNoReferenceToWhatWasRemoved(t *testing.T) {
	var q Queue[*int]
	for range 2 {
		q.Push(new(int))
	}
	q.DropLast()
	q.Pop()
	require.Equal(t, []*int{nil, nil}, q.items)
}

func TestQueue_DropLastRemovesTheNewest(t *testing.T) {
	for turned := range 4 { // where the items lie in memory
		var q Queue[int]
		for range turned {
			q.Push(0)
			q.Pop()
		}
		q.Push(1)
		q.Push(2)
		q.DropLast()
		q.Push(3)
		require.Equal(t, 2, q.Len())
		require.Equal(t, []int{1, 3}, []int{q.Pop(), q.Pop()})
	}
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
	require.Panics(t, q.DropLast)
}
