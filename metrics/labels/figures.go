package labels

import (
	"reflect"

	"github.com/raftwire/raftwire"
)

// The upper bounds of histogram buckets.
var (
	// LatencyBuckets, in seconds, go from a call over loopback to one that
	// nearly times out.
	LatencyBuckets = []float64{
		50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10,
	}
	// SizeBuckets, in bytes, go from a heartbeat to the largest batches.
	SizeBuckets = []float64{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20}
	// EntryBuckets begin with an AppendEntries that only tells the commit index.
	EntryBuckets = []float64{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
)

// RefusalReasons returns every label that a refusal can have.
func RefusalReasons() (names []string) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[raftwire.Refusals]()) {
		names = append(names, field.Name)
	}
	return names
}

// InboundConns returns how many inbound connections there are.
func InboundConns(s *raftwire.Stats) (conns int) {
	for _, h := range s.Inbound {
		conns += h.Conns
	}
	return conns
}
