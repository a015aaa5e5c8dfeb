package dump

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Options say what is printed.
type Options struct {
	// Port leaves out connections without that port; 0 leaves out none.
	Port uint16
	// NoHeartbeats leaves out heartbeats and their answers.
	NoHeartbeats bool
}

// Dump prints a capture. What was read before an error is printed, too.
func Dump(file io.Reader, out io.Writer, options Options) error {
	packets, err := openCapture(file)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(out)
	d := &dump{options: options, open: make(map[key]*connection)}
	d.printer = printer{out: buffered, noHeartbeats: options.NoHeartbeats, conns: make(map[string]int)}
	err = d.readAll(packets)
	for _, c := range d.inOrder() {
		d.end(c)
	}
	d.summarize(d.truncated)
	return errors.Join(err, buffered.Flush())
}

type dump struct {
	options Options
	printer
	open      map[key]*connection
	opened    int // connections so far
	truncated int // packets
}

// A key names a connection by the addresses and ports of its first packet.
type key struct{ hosts, ports gopacket.Flow }

func (k key) reverse() key { return key{k.hosts.Reverse(), k.ports.Reverse()} }

// A connection is a conversation with its TCP.
type connection struct {
	*conversation
	key    key
	number int     // in the order in which they began
	flows  [2]flow // as conversation.halves: the first packet's direction comes first
	first  uint32  // sequence number of its SYN
}

// readAll reads packets until the end, or until one cannot be read.
func (d *dump) readAll(packets capture) error {
	for count := 1; ; count++ {
		data, info, err := packets.ReadPacketData()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("the capture ends in packet %d: %w", count, err)
		}
		packet := gopacket.NewPacket(data, packets.linkOf(info), gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		if hosts, tcp := segmentIn(packet); tcp != nil && d.wants(tcp) {
			d.take(key{hosts.NetworkFlow(), tcp.TransportFlow()}, tcp, info)
		}
	}
}

// segmentIn returns a packet's TCP and the layer right under it, which is not that of a
// tunnel; or nil.
func segmentIn(packet gopacket.Packet) (hosts gopacket.NetworkLayer, tcp *layers.TCP) {
	for _, layer := range packet.Layers() {
		switch l := layer.(type) {
		case gopacket.NetworkLayer:
			hosts = l
		case *layers.TCP:
			if hosts != nil {
				return hosts, l
			}
		}
	}
	return nil, nil
}

func (d *dump) wants(tcp *layers.TCP) bool {
	port := layers.TCPPort(d.options.Port)
	return port == 0 || tcp.SrcPort == port || tcp.DstPort == port
}

// take hands a segment over. The acknowledgement in it comes first: the answer that it
// may come with follows what it acknowledges.
func (d *dump) take(k key, tcp *layers.TCP, info gopacket.CaptureInfo) {
	c, way := d.find(k, tcp)
	if c == nil {
		return
	}
	if info.CaptureLength < info.Length {
		d.truncated++
	}
	f, h, back := &c.flows[way], c.halves[way], &c.flows[1-way]
	seq := tcp.Seq
	if tcp.SYN {
		seq++
	}
	if !f.started {
		f.start(seq)
		h.midway = !tcp.SYN
	}
	if tcp.ACK && !back.started {
		back.start(tcp.Ack)
		c.halves[1-way].midway = true
	} else if tcp.ACK {
		back.acknowledge(info.Timestamp, tcp.Ack)
	}
	f.add(segment{info.Timestamp, seq, tcp.Payload, tcp.FIN})
	if tcp.RST || f.ended && back.ended {
		d.end(c)
	}
}

// find returns the connection of a segment, and which half it is of. It returns nil
// for what is left of one that has ended.
func (d *dump) find(k key, tcp *layers.TCP) (c *connection, way int) {
	c = d.open[k]
	if c == nil {
		if c = d.open[k.reverse()]; c != nil {
			way = 1
		}
	}
	begins := tcp.SYN && !tcp.ACK
	if c != nil && begins && (way == 1 || c.first != tcp.Seq) {
		d.end(c) // the ports are used again
		c = nil
	}
	if c == nil && (begins || tcp.SYN || len(tcp.Payload) > 0) {
		return d.begin(k, tcp), 0
	}
	return c, way
}

func (d *dump) begin(k key, tcp *layers.TCP) *connection {
	from := net.JoinHostPort(k.hosts.Src().String(), k.ports.Src().String())
	to := net.JoinHostPort(k.hosts.Dst().String(), k.ports.Dst().String())
	d.opened++
	c := &connection{conversation: newConversation(&d.printer, from, to), key: k, number: d.opened, first: tcp.Seq}
	for i, h := range c.halves {
		c.flows[i].deliver = h.feed
	}
	d.open[k] = c
	return c
}

// end ends a connection, with what was captured of it.
func (d *dump) end(c *connection) {
	delete(d.open, c.key)
	for i := range c.flows {
		c.flows[i].finish()
	}
	c.end()
}

// inOrder returns the open connections in the order in which they began.
func (d *dump) inOrder() []*connection {
	all := make([]*connection, 0, len(d.open))
	for _, c := range d.open {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *connection) int { return a.number - b.number })
	return all
}
