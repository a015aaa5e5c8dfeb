package labels

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCacheMakesEachKeyOnce(t *testing.T) {
	made := make(map[int]int) // Make is never called concurrently
	cache := Cache[int, int]{Make: func(key int) int { made[key]++; return -key }}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for key := range 100 {
				if cache.Get(key) != -key {
					t.Errorf("got another key's value for %d", key)
				}
			}
		})
	}
	all.Wait()
	require.Len(t, made, 100)
	for key, times := range made {
		require.Equal(t, 1, times, "key %d", key)
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { cache.Get(7) }))
}
