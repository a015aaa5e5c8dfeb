package dump

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// Every test closes what it opened, and no coroutine may be left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A tape records what travels over the connections that one end dials.
type tape struct {
	mu    sync.Mutex // protects turns
	turns []turn
}

// A turn is what travelled in one direction until something travelled in the other.
type turn struct {
	answers bool // the direction
	bytes   []byte
}

func (p *tape) record(answers bool, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.turns) - 1; last >= 0 && p.turns[last].answers == answers {
		p.turns[last].bytes = append(p.turns[last].bytes, b...)
		return
	}
	p.turns = append(p.turns, turn{answers, bytes.Clone(b)})
}

type recorded struct {
	net.Conn
	tape *tape
}

func (c recorded) Write(b []byte) (int, error) {
	c.tape.record(false, b)
	return c.Conn.Write(b)
}

func (c recorded) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.tape.record(true, b[:n])
	}
	return n, err
}

// record has a client talk to a server, and returns what has travelled.
func record(t *testing.T, core func(raftwire.RPC), talk func(client *raftwire.NetworkTransport, server raftwire.ServerAddress)) []turn {
	t.Helper()
	const patience = 30 * time.Second
	server, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, 3, patience, io.Discard)
	require.NoError(t, err)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case rpc := <-server.Consumer():
				core(rpc)
			case <-done:
				return
			}
		}
	}()
	p := new(tape)
	layer, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{
		Bind: "127.0.0.1:0",
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return recorded{conn, p}, err
		},
	})
	require.NoError(t, err)
	client := raftwire.NewNetworkTransport(layer, 1, patience, io.Discard)
	talk(client, server.LocalAddr())
	require.NoError(t, client.Close())
	require.NoError(t, server.Close())
	close(done)
	<-ended
	return p.turns
}

// segmentBytes is the payload of a full segment.
const segmentBytes = 1448

// A wire makes the packets of a connection between 10.0.0.1:41000 and 10.0.0.2:8300.
// Each is captured a millisecond after the one before.
type wire struct {
	t       *testing.T
	now     time.Time
	packets [][]byte
	times   []time.Time
	full    []int // the lengths of packets that are cut short, or nil
	seq     [2]uint32
	port    layers.TCPPort // of the one who dials
}

func newWire(t *testing.T) *wire {
	return &wire{t: t, now: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), seq: [2]uint32{1000, 0xffffff00}, port: 41000}
}

// open adds the handshake of TCP.
func (w *wire) open() {
	w.add(false, func(s *layers.TCP) { s.SYN, s.ACK = true, false }, nil)
	w.add(true, func(s *layers.TCP) { s.SYN = true }, nil)
}

// close adds the end of both directions.
func (w *wire) close() {
	w.add(false, func(s *layers.TCP) { s.FIN = true }, nil)
	w.add(true, func(s *layers.TCP) { s.FIN = true }, nil)
}

// play adds what was recorded, or made up.
func (w *wire) play(turns ...turn) {
	for _, turn := range turns {
		for b := turn.bytes; len(b) > 0; b = b[min(len(b), segmentBytes):] {
			w.add(turn.answers, nil, b[:min(len(b), segmentBytes)])
		}
	}
}

// add adds a segment.
func (w *wire) add(answers bool, change func(*layers.TCP), payload []byte) {
	w.t.Helper()
	from, to := 0, 1
	ports, hosts := [2]layers.TCPPort{w.port, 8300}, [2]net.IP{{10, 0, 0, 1}, {10, 0, 0, 2}}
	if answers {
		from, to = 1, 0
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: hosts[from], DstIP: hosts[to]}
	tcp := &layers.TCP{SrcPort: ports[from], DstPort: ports[to], Seq: w.seq[from], Ack: w.seq[to], ACK: true, Window: 65535}
	if change != nil {
		change(tcp)
	}
	require.NoError(w.t, tcp.SetNetworkLayerForChecksum(ip))
	ethernet := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	packet := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	require.NoError(w.t, gopacket.SerializeLayers(packet, options, ethernet, ip, tcp, gopacket.Payload(payload)))
	w.seq[from] += uint32(len(payload))
	if tcp.SYN || tcp.FIN {
		w.seq[from]++
	}
	w.packets = append(w.packets, packet.Bytes())
	w.times = append(w.times, w.now)
	w.now = w.now.Add(time.Millisecond)
}

// pcap returns a file of the packets.
func (w *wire) pcap() []byte {
	var file bytes.Buffer
	out := pcapgo.NewWriterNanos(&file)
	require.NoError(w.t, out.WriteFileHeader(65535, layers.LinkTypeEthernet))
	w.write(func(info gopacket.CaptureInfo, data []byte) error { return out.WritePacket(info, data) })
	return file.Bytes()
}

// pcapng returns a file of the packets in the other format.
func (w *wire) pcapng() []byte {
	var file bytes.Buffer
	out, err := pcapgo.NewNgWriter(&file, layers.LinkTypeEthernet)
	require.NoError(w.t, err)
	w.write(func(info gopacket.CaptureInfo, data []byte) error { return out.WritePacket(info, data) })
	require.NoError(w.t, out.Flush())
	return file.Bytes()
}

func (w *wire) write(write func(gopacket.CaptureInfo, []byte) error) {
	for i, packet := range w.packets {
		length := len(packet)
		if w.full != nil {
			length = max(length, w.full[i])
		}
		require.NoError(w.t, write(gopacket.CaptureInfo{Timestamp: w.times[i], CaptureLength: len(packet), Length: length}, packet))
	}
}

// lose drops a packet.
func (w *wire) lose(i int) {
	w.packets = append(w.packets[:i:i], w.packets[i+1:]...)
	w.times = append(w.times[:i:i], w.times[i+1:]...)
}

// dumped returns what is printed of a file.
func dumped(t *testing.T, file []byte, options Options) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, Dump(bytes.NewReader(file), &out, options))
	return "\n" + out.String()
}

// hashicorpLayer dials recorded connections for a transport of hashicorp/raft.
type hashicorpLayer struct {
	net.Listener
	tape *tape
}

func (l hashicorpLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", string(address), timeout)
	return recorded{conn, l.tape}, err
}

// recordHashicorp is an AppendEntries from a transport of hashicorp/raft to another.
func recordHashicorp(t *testing.T) []turn {
	t.Helper()
	const patience = 30 * time.Second
	p := new(tape)
	var ends [2]*raft.NetworkTransport
	for i := range ends {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		ends[i] = raft.NewNetworkTransportWithLogger(hashicorpLayer{listener, p}, 1, patience, hclog.NewNullLogger())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		rpc := <-ends[1].Consumer()
		rpc.Respond(&raft.AppendEntriesResponse{Term: 3, LastLog: 18, Success: true}, nil)
	}()
	entry := &raft.Log{Index: 18, Term: 3, Data: []byte("data"), AppendedAt: time.Now()}
	m := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, Addr: []byte("node1")},
		Term:      3, PrevLogEntry: 17, PrevLogTerm: 2, Entries: []*raft.Log{entry}, LeaderCommitIndex: 17,
	}
	require.NoError(t, ends[0].AppendEntries("", ends[1].LocalAddr(), m, new(raft.AppendEntriesResponse)))
	<-done
	for _, end := range ends { // its Close leaves connections
		end.CloseStreams()
		require.NoError(t, end.Close())
	}
	return p.turns
}
