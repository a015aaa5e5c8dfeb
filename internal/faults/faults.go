// Package faults has what the two networks with faults share: InmemNetwork, and
// package faultnet.
package faults

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Random returns the source of all that is random about one link. What it decides
// does not depend on what happens on other links.
func Random(seed int64, from, to string) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q %q", from, to)
	return rand.New(rand.NewPCG(uint64(seed), h.Sum64()))
}

// Delay returns how long something travels: the latency, and a random time of at
// most jitter.
func Delay(latency, jitter time.Duration, random *rand.Rand) time.Duration {
	if jitter <= 0 {
		return latency
	}
	return latency + time.Duration(random.Int64N(int64(jitter)+1))
}
