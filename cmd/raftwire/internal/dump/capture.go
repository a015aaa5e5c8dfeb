// Package dump prints the Raft requests and answers that a file of captured packets
// holds.
package dump

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// A capture yields packets, and says of which link each is.
type capture interface {
	ReadPacketData() (data []byte, info gopacket.CaptureInfo, err error)
	linkOf(info gopacket.CaptureInfo) layers.LinkType
}

// openCapture reads the header of a file, pcap or pcapng.
func openCapture(r io.Reader) (capture, error) {
	in := bufio.NewReaderSize(r, 1<<20)
	magic, err := in.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("no capture: the file has less than 4 bytes: %w", err)
	}
	if bytes.Equal(magic, []byte("\x0a\x0d\x0d\x0a")) { // block type of a section header
		ng, err := pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
		if err != nil {
			return nil, fmt.Errorf("pcapng: %w", err)
		}
		return mixed{ng}, nil
	}
	plain, err := pcapgo.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("neither pcap nor pcapng: %w", err)
	}
	return uniform{plain}, nil
}

// uniform is a pcap file.
type uniform struct{ *pcapgo.Reader }

func (u uniform) linkOf(gopacket.CaptureInfo) layers.LinkType { return u.LinkType() }

// mixed is a pcapng file, whose packets may come from several interfaces.
type mixed struct{ *pcapgo.NgReader }

func (m mixed) linkOf(info gopacket.CaptureInfo) layers.LinkType {
	if i, err := m.Interface(info.InterfaceIndex); err == nil {
		return i.LinkType
	}
	return m.LinkType()
}
