package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"

	"github.com/google/pprof/profile"
)

// profile begins a profile at one read and ends it at the next, if there is to
// be one, and returns the transport's share of the CPU time between the two.
func (n *clusterNode) profile() (share float64, err error) {
	switch {
	case n.setup.Profile == "":
		return 0, nil
	case n.profiling != nil:
		pprof.StopCPUProfile()
		share, err = transportShare(n.profiling)
		err = errors.Join(err, n.profiling.Close())
		n.profiling = nil
		return share, err
	}
	if n.profiling, err = os.Create(n.setup.Profile); err != nil {
		return 0, err
	}
	return 0, pprof.StartCPUProfile(n.profiling)
}

// transportShare reads a profile that was written to a file.
func transportShare(file io.ReadSeeker) (float64, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	p, err := profile.Parse(file)
	if err != nil {
		return 0, err
	}
	var transport, all int64
	for _, sample := range p.Sample {
		ns := sample.Value[len(sample.Value)-1]
		all += ns
		if isOfTransport(sample) {
			transport += ns
		}
	}
	return float64(transport) / float64(max(1, all)), nil
}

// isOfTransport looks at a sample's stack from the inside out: the first frame
// of the transport or of the Raft core decides. What has neither is the
// scheduler's or the collector's, who work for both.
func isOfTransport(sample *profile.Sample) bool {
	for _, location := range sample.Location {
		for _, line := range location.Line {
			switch name, file := line.Function.Name, filepath.Base(line.Function.Filename); {
			case strings.HasPrefix(name, "main."), strings.HasPrefix(name, "github.com/raftwire/raftwire/raftbench."):
				return false
			case strings.HasPrefix(name, "github.com/raftwire/"), strings.HasPrefix(name, "github.com/hashicorp/go-msgpack/"):
				return true
			case strings.HasPrefix(name, "github.com/hashicorp/raft."):
				return file == "net_transport.go" || file == "tcp_transport.go"
			}
		}
	}
	return false
}
