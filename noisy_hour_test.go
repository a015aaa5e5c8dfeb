package raftwire_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Three nodes call each other for an hour. They are restarted, killed, cut off and
// switched off, and every second somebody scans their ports. The number of lines does
// not grow with the number of scans, and none is an error.
func TestLog_StaysReadableInANoisyHour(t *testing.T) {
	var log levelCounter
	scans := 0
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		h := newNoisyHour(t, net, &log)
		for ; scans < 3600; scans++ {
			pause(time.Second)
			h.scan(t)
			if scans%360 == 359 {
				h.misfortune(t)
			}
		}
		h.stop(t)
	})
	t.Logf("%d scans, 10 misfortunes of 3 nodes; lines by level: %v", scans, log.counts())
	lines := log.counts()
	require.Zero(t, lines["ERROR"], log.text())
	require.LessOrEqual(t, lines["WARN"], 310, log.text())
	require.LessOrEqual(t, lines["INFO"], 110, log.text())
	require.Greater(t, lines["DEBUG"], 3600, "what is left out above is there")
	for _, said := range []string{"HTTP", "TLS", "SSH", "unknown rpc type", "FirstByteTimeout", "reset"} {
		require.Contains(t, log.text(), said, "it was not said once")
	}
}

// levelCounter is a log of several processes that counts lines by level.
type levelCounter struct {
	mu    sync.Mutex // protects following
	lines []string
}

// logger returns the logger of a process, and a function that silences it, as when the
// process is killed.
func (c *levelCounter) logger(name string) (_ hclog.Logger, silence func()) {
	p := &processLog{to: c}
	return hclog.New(&hclog.LoggerOptions{Name: name, Output: p, Level: hclog.Trace}), func() { p.dead.Store(true) }
}

func (c *levelCounter) counts() map[string]int {
	counts := make(map[string]int)
	for _, line := range c.lines {
		_, rest, _ := strings.Cut(line, "[")
		level, _, _ := strings.Cut(rest, "]")
		counts[level]++
	}
	return counts
}

// text returns the lines above level debug.
func (c *levelCounter) text() string {
	var loud strings.Builder
	for _, line := range c.lines {
		if !strings.Contains(line, "[DEBUG]") {
			loud.WriteString(line)
		}
	}
	return loud.String()
}

type processLog struct {
	to   *levelCounter
	dead atomic.Bool
}

func (p *processLog) Write(line []byte) (int, error) {
	if p.dead.Load() {
		return len(line), nil
	}
	p.to.mu.Lock()
	defer p.to.mu.Unlock()
	p.to.lines = append(p.to.lines, string(line))
	return len(line), nil
}

// noisyHour is a cluster whose nodes call each other all the time.
type noisyHour struct {
	net    *faultnet.Network
	log    *levelCounter
	random *rand.Rand
	nodes  map[string]*noisyNode
	fates  int
	scans  sync.WaitGroup
}

func (h *noisyHour) start(t *testing.T, name string) {
	layer, err := h.net.Host(name).Listen()
	require.NoError(t, err)
	logger, silence := h.log.logger(name)
	c := config(withTimeout(2 * time.Second))
	c.Stream, c.Logger = layer, logger
	node := &noisyNode{transport: raftwire.NewNetworkTransportWithConfig(c), silence: silence}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { node.answerUntil(ctx) })
	for _, peer := range noisyNames {
		if peer != name {
			all.Go(func() { node.callUntil(ctx, raftwire.ServerAddress(peer)) })
		}
	}
	node.stop = func() { cancel(); all.Wait() }
	h.nodes[name] = node
}

// misfortune restarts, kills, cuts off and switches off one node after the other.
func (h *noisyHour) misfortune(t *testing.T) {
	name := noisyNames[h.fates%len(noisyNames)]
	switch h.fates++; h.fates % 4 {
	case 0:
		h.end(t, name)
		pause(10 * time.Second)
		h.start(t, name)
	case 1:
		h.kill(t, name, h.net.Host(name).Crash)
	case 2:
		h.net.Isolate(name)
		pause(30 * time.Second)
		h.net.Heal()
	case 3:
		h.kill(t, name, h.net.Host(name).PowerOff)
	}
}

func (h *noisyHour) kill(t *testing.T, name string, kill func()) {
	h.nodes[name].silence()
	kill()
	h.end(t, name)
	pause(20 * time.Second)
	h.net.Host(name).Restart()
	h.start(t, name)
}

func (h *noisyHour) end(t *testing.T, name string) {
	require.NoError(t, h.nodes[name].transport.Close())
	h.nodes[name].stop()
}

func (h *noisyHour) stop(t *testing.T) {
	for _, name := range noisyNames {
		h.end(t, name)
	}
	h.scans.Wait()
}

// scan is one connection of a port scanner.
func (h *noisyHour) scan(t *testing.T) {
	from, to := fmt.Sprintf("scanner-%d", h.random.IntN(50)), noisyNames[h.random.IntN(len(noisyNames))]
	junk := []byte{byte(6 + h.random.IntN(250)), 0xff, 0}
	says := []string{"", "", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00", "SSH-2.0-scan\r\n", string(junk), "\x03\x83\xa4", "\x00\x81\xa7Entries\x91\xc0"}[h.random.IntN(8)]
	leave := []func(net_){closeNow, resetNow, waitAndClose}[h.random.IntN(3)]
	h.scans.Go(func() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := h.net.Host(from).Dial(ctx, to)
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, says)
		leave(conn)
		_ = conn.Close()
	})
}

type noisyNode struct {
	transport *raftwire.NetworkTransport
	silence   func()
	stop      func() // ends its calls, and waits
}

func (n *noisyNode) answerUntil(ctx context.Context) {
	for {
		select {
		case rpc := <-n.transport.Consumer():
			accept(rpc)
		case <-ctx.Done():
			return
		}
	}
}

func (n *noisyNode) callUntil(ctx context.Context, peer raftwire.ServerAddress) {
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = appendOnce(n.transport, peer) // what the caller is told is not in the log
		case <-ctx.Done():
			return
		}
	}
}

var noisyNames = []string{"a", "b", "c"}

func newNoisyHour(t *testing.T, net *faultnet.Network, log *levelCounter) *noisyHour {
	h := &noisyHour{net: net, log: log, random: rand.New(rand.NewPCG(1, 2)), nodes: make(map[string]*noisyNode)}
	for _, name := range noisyNames {
		h.start(t, name)
	}
	return h
}
