package layers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/sniff"
	"github.com/raftwire/raftwire/internal/sock"
)

const (
	// defaultSortTimeout is generous: a peer says at once what it wants.
	defaultSortTimeout = 10 * time.Second

	defaultMaxUnsorted = 1024

	maxProtocol = 255 // bytes in the name of one, RFC 7301 §3.1
)

// MuxConfig configures a [Mux]. NewMux copies it.
type MuxConfig struct {
	// Listener accepts the connections. Required. It belongs to the Mux, whose
	// Close closes it. It may yield connections of any kind, *tls.Conn too; a
	// layer of another Mux will do, for keys of two bytes. Over a
	// *TLS every layer is as secure as that one: it verifies each
	// peer, and the Mux adds the protocols of layers with an ALPN key to its
	// NextProtos.
	Listener net.Listener

	// Dial connects to the port of a peer; the Mux then says which layer is
	// meant. nil means the Listener's own Dial or DialContext if it is a
	// StreamLayer, and plain TCP if it is a *net.TCPListener; otherwise Dial is
	// required.
	Dial DialFunc

	// Advertise is what the layers return from Addr, nil means the address of
	// Listener: set it if that names no host, as that of a listener on ":8300".
	Advertise net.Addr

	// TLS is for layers with an ALPN key, unless Listener and Dial yield
	// *tls.Conn already. It is used for both ends: Certificates, ClientAuth and
	// ClientCAs when a connection comes in; Certificates, RootCAs and ServerName
	// (if empty, the host in the address) when one is dialled. NextProtos is set
	// by the Mux. A connection that comes in is taken for TLS if it begins like
	// it, so that layers with other keys stay reachable without. For a port where
	// nothing is spoken without TLS, and for what [TLSConfig] does, have a
	// TLS for Listener instead. Without ClientAuth anybody may speak
	// whatever layer's protocol: GetConfigForClient can ask a certificate of those
	// who offer one protocol, and not of others.
	TLS *tls.Config

	// Timeout is how long a connection may take to say for which layer it is,
	// handshake included. 0 means 10 seconds; negative is an error.
	Timeout time.Duration

	// MaxUnsorted is how many connections may not have said so yet. One more
	// takes the place of the oldest. 0 means 1024; negative is an error.
	MaxUnsorted int

	// Logger takes a line for each connection that is refused; nil means
	// standard error, level info.
	Logger hclog.Logger

	// Refused is called for each connection that is refused, as [raftwire.Hooks].Refused
	// is by a transport: metrics take both. It may be nil. It must not block: it would
	// hold up Close for up to a second, but no other connection.
	Refused func(raftwire.RefusalEvent)
}

func (c *MuxConfig) check() error {
	switch {
	case sock.IsNil(c.Listener):
		return errors.New("raftwire: MuxConfig.Listener is nil: set it, or use NewHandoff for connections that are accepted elsewhere")
	case c.TLS != nil && isSecured(c.Listener):
		return errors.New("raftwire: MuxConfig.TLS is set, and Listener is a TLS layer, which has a configuration of its own: use one or the other")
	case c.Timeout < 0:
		return fmt.Errorf("raftwire: MuxConfig.Timeout is %v: use 0 for the default, or a positive duration", c.Timeout)
	case c.MaxUnsorted < 0:
		return fmt.Errorf("raftwire: MuxConfig.MaxUnsorted is %d: use 0 for the default, or a positive number", c.MaxUnsorted)
	}
	return nil
}

func isSecured(listener net.Listener) bool {
	_, ok := listener.(*TLS)
	return ok
}

// isPlain reports whether neither end of a connection can have TLS. Listeners
// and dialers of other makes may bring it along.
func (c *MuxConfig) isPlain() bool {
	if c.TLS != nil || c.Dial != nil {
		return false
	}
	switch c.Listener.(type) {
	case *net.TCPListener, *raftwire.TCPStreamLayer:
		return true
	}
	return false
}

// dialFunc returns what the layers dial with.
func (c *MuxConfig) dialFunc() (DialFunc, error) {
	if c.Dial != nil {
		return c.Dial, nil
	}
	switch l := c.Listener.(type) {
	case raftwire.StreamLayer:
		return func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
			return dialing.Stream(ctx, l, address)
		}, nil
	case *net.TCPListener:
		return new(raftwire.TCPStreamLayer).DialContext, nil
	}
	return nil, fmt.Errorf("raftwire: MuxConfig.Dial is nil: set it to what reaches the port of a peer, since a %T cannot dial", c.Listener)
}

// Key is how a connection says for which layer it is. Keys are compared
// with ==. The zero value is no key: [FirstByte], [ALPN] and [Unprefixed] make
// them.
type Key struct {
	kind     keyKind
	first    byte
	protocol string
}

type keyKind uint8

const (
	keyFirstByte keyKind = 1 + iota
	keyALPN
	keyUnprefixed
)

// FirstByte is the key of connections that begin with a byte of its own, which
// is taken off before the connection is handed over.
func FirstByte(b byte) Key { return Key{kind: keyFirstByte, first: b} }

// ALPN is the key of TLS connections that have negotiated a protocol (RFC 7301).
func ALPN(protocol string) Key { return Key{kind: keyALPN, protocol: protocol} }

// Unprefixed is the key of peers that know of no keys, such as every
// hashicorp/raft: their connections begin with the kind of a request, a byte of
// 0 to 4.
func Unprefixed() Key { return Key{kind: keyUnprefixed} }

// String returns the key in words.
func (k Key) String() string {
	switch k.kind {
	case keyALPN:
		return fmt.Sprintf("ALPN %q", k.protocol)
	case keyUnprefixed:
		return "no prefix"
	case keyFirstByte:
		return fmt.Sprintf("first byte %d", k.first)
	}
	return "no key"
}

// Mux shares a port between Raft groups, and with other services: it accepts
// the connections of one listener, and hands each to the layer whose key it
// shows. All methods may be called by several goroutines.
//
// Connections are accepted from the first call of Layer on. One that shows the
// key of no layer is closed, with a line in the log that says what it looks
// like; a service that speaks first cannot share the port.
type Mux struct {
	dial     DialFunc
	under    raftwire.StreamLayer // what dial dials with, if that is known
	secured  *TLS                 // under, if it is one
	verified bool                 // every connection comes with its peer verified
	addr     net.Addr
	tls      *tls.Config
	plain    bool // no connection can have TLS

	reception reception
	start     sync.Once

	mu     sync.Mutex // protects following
	layers map[Key]*Handoff
	closed bool
}

// NewMux returns a Mux without layers. On an error the listener stays open.
func NewMux(config MuxConfig) (*Mux, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	dial, err := config.dialFunc()
	if err != nil {
		return nil, err
	}
	checked := func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
		return sock.CheckConn(dial(ctx, address))
	}
	m := &Mux{dial: checked, addr: config.Advertise, tls: config.TLS, plain: config.isPlain(), layers: make(map[Key]*Handoff)}
	if config.Dial == nil {
		m.under, _ = config.Listener.(raftwire.StreamLayer)
		m.secured, _ = config.Listener.(*TLS)
	}
	switch l := config.Listener.(type) {
	case *TLS:
		l.layers, m.verified = m.protocols, true
	case *Handoff:
		m.verified = l.verified
	}
	if sock.IsNil(m.addr) {
		m.addr = config.Listener.Addr()
	}
	m.reception = reception{
		listener: config.Listener,
		logger:   config.Logger,
		timeout:  config.Timeout,
		limit:    config.MaxUnsorted,
		sort:     m.sort,
	}
	m.reception.refusals.Hook = refusedHook(config.Refused)
	m.reception.setDefaults()
	m.reception.logger = m.reception.logger.With(logs.KeyLocal, config.Listener.Addr())
	return m, nil
}

// Layer returns the layer of connections that show one of the keys. It dials
// with the first: a group can be moved from one key to another, one node at a
// time, by accepting both before any node dials with the new one.
//
// Closing the layer, which a transport over it does, leaves the other layers
// alone and frees its keys.
func (m *Mux) Layer(keys ...Key) (*Handoff, error) {
	layer, err := m.register(keys)
	if err != nil {
		return nil, fmt.Errorf("raftwire: mux: %w", err)
	}
	m.start.Do(m.reception.open)
	return layer, nil
}

func (m *Mux) register(keys []Key) (*Handoff, error) {
	if len(keys) == 0 {
		return nil, errors.New("a layer needs a key")
	}
	keys = slices.Clone(keys) // the caller may use its slice again
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, net.ErrClosed
	}
	for i, key := range keys {
		if err := m.clash(key, keys[:i]); err != nil {
			return nil, err
		}
	}
	layer := newHandoff(m.addr, m.dialer(keys[0]))
	layer.under = m.under
	layer.release = func() { m.unregister(keys) }
	layer.verified = m.verified
	for _, key := range keys {
		m.layers[key] = layer
	}
	return layer, nil
}

// clash returns what speaks against a key beside those of the layers and
// others.
func (m *Mux) clash(key Key, others []Key) error {
	taken := func(k Key) bool { return m.layers[k] != nil || slices.Contains(others, k) }
	switch {
	case key == Key{}:
		return errors.New("a key is empty: make it with FirstByte, ALPN or Unprefixed")
	case key == ALPN("") || len(key.protocol) > maxProtocol:
		return fmt.Errorf("%v is no protocol: a name has 1 to %d bytes", key, maxProtocol)
	case key.kind == keyALPN && m.plain:
		return fmt.Errorf("%v needs TLS: set MuxConfig.TLS, have a TLS layer for MuxConfig.Listener, or use FirstByte", key)
	case taken(key):
		return fmt.Errorf("%v is taken", key)
	case key == Unprefixed():
		for kind := range sniff.RaftKinds {
			if k := FirstByte(byte(kind)); taken(k) {
				return fmt.Errorf("%v is taken, so that %v could not be told from it: use bytes from %d on", k, key, sniff.RaftKinds)
			}
		}
	case key.kind == keyFirstByte && key.first < sniff.RaftKinds && taken(Unprefixed()):
		return fmt.Errorf("%v could not be told from %v, which is taken: use bytes from %d on", key, Unprefixed(), sniff.RaftKinds)
	case key == FirstByte(sniff.TLSHandshake) && m.tls != nil:
		return fmt.Errorf("%v could not be told from TLS: use another", key)
	}
	return nil
}

func (m *Mux) unregister(keys []Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		delete(m.layers, key)
	}
}

// Close closes the listener and every layer. Connections that were accepted
// from a layer stay open.
func (m *Mux) Close() error {
	layers := m.shut()
	err := m.reception.close()
	for _, layer := range layers {
		_ = layer.Close()
	}
	return err
}

func (m *Mux) shut() map[Key]*Handoff {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	layers := m.layers
	m.layers = nil
	return layers
}

// Refusals returns which connections were refused since the Mux was made: those
// that others replaced (TooManyConns), that said nothing in time (Silent), or
// showed the key of no layer (Foreign). It does not block.
func (m *Mux) Refusals() raftwire.Refusals { return raftwire.Refusals(m.reception.refusals.Counts()) }

// layer returns the layer of a key, or nil.
func (m *Mux) layer(key Key) *Handoff {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.layers[key]
}

// sort finds the layer for an inbound connection. TLS comes first, if it is
// TLS: its protocol decides, or else the first byte inside.
func (m *Mux) sort(in door.Handover) (out door.Handover, layer *Handoff, err error) {
	out = in
	if conn, ok := in.Conn.(*tls.Conn); ok {
		layer, err = m.sortTLS(&out, conn)
		return out, layer, err
	}
	first, err := readByte(in.Conn)
	if err != nil {
		return in, nil, err
	}
	if first == sniff.TLSHandshake && m.tls != nil {
		layer, err = m.sortTLS(&out, tls.Server(&sock.TimedConn{Conn: sock.Unread(in.Conn, first)}, m.serverTLS()))
	} else {
		layer, err = m.sortFirst(&out, first)
	}
	return out, layer, err
}

func (m *Mux) sortTLS(out *door.Handover, conn *tls.Conn) (*Handoff, error) {
	if err := conn.Handshake(); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	out.Conn = conn
	protocol := conn.ConnectionState().NegotiatedProtocol
	if layer := m.layer(ALPN(protocol)); layer != nil {
		out.Identified = true
		return layer, nil
	}
	first, err := readByte(conn)
	if err != nil {
		return nil, err
	}
	layer, err := m.sortFirst(out, first)
	if err != nil && protocol == "" {
		err = m.explainUnnegotiated(err)
	}
	return layer, err
}

// explainUnnegotiated adds to err, with which no layer was found, that TLS would
// have led to one. Only a connection that is refused has it look at the layers.
func (m *Mux) explainUnnegotiated(err error) error {
	protocols := m.protocols()
	if len(protocols) == 0 {
		return err
	}
	refused := err.(*door.Refusal)
	return &door.Refusal{Reason: door.Foreign, Detail: refused.Detail, Err: fmt.Errorf("its TLS negotiated no protocol, of %q, and %w", protocols, refused.Err)}
}

// sortFirst finds the layer for a connection that began with first. A byte of 0 to 4
// identifies nobody: hashicorp/raft and port scans begin with it.
func (m *Mux) sortFirst(out *door.Handover, first byte) (*Handoff, error) {
	if layer := m.layer(FirstByte(first)); layer != nil {
		out.Identified = true
		return layer, nil
	}
	if layer := m.layer(Unprefixed()); layer != nil && first < sniff.RaftKinds {
		out.Conn = sock.Unread(out.Conn, first)
		return layer, nil
	}
	return nil, strangeByte(first)
}

// strangeByte says what a connection looks like that begins with the key of no
// layer.
func strangeByte(first byte) error {
	guess := sniff.Request(first)
	if first < sniff.RaftKinds {
		guess = "a Raft peer that sends no prefix (Unprefixed would accept it)"
	}
	looks := ""
	if guess != "" {
		looks = ": this looks like " + guess
	}
	return &door.Refusal{Reason: door.Foreign, Detail: guess, Err: fmt.Errorf("no layer has its first byte, %d%s", first, looks)}
}

// readByte reads one byte and no more.
func readByte(conn net.Conn) (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(conn, b[:])
	return b[0], err
}

// serverTLS returns the configuration for an inbound connection, with the
// protocols that there are layers for.
func (m *Mux) serverTLS() *tls.Config {
	protocols := m.protocols()
	config := withProtocols(m.tls, protocols)
	if own := config.GetConfigForClient; own != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			config, err := own(hello)
			if config != nil {
				config = withProtocols(config, protocols)
			}
			return config, err
		}
	}
	return config
}

func withProtocols(config *tls.Config, protocols []string) *tls.Config {
	config = config.Clone()
	config.NextProtos = protocols
	return config
}

func (m *Mux) protocols() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.layers {
		if key.kind == keyALPN {
			all = append(all, key.protocol)
		}
	}
	slices.Sort(all)
	return all
}

// dialer returns how to dial a layer with this key. A Handoff closes what
// is returned beside an error.
func (m *Mux) dialer(key Key) DialFunc {
	switch key.kind {
	case keyALPN:
		return func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
			return m.dialALPN(ctx, address, key.protocol)
		}
	case keyFirstByte:
		return func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
			return m.dialFirst(ctx, address, key.first)
		}
	}
	return m.dial
}

func (m *Mux) dialFirst(ctx context.Context, address raftwire.ServerAddress, first byte) (net.Conn, error) {
	conn, err := m.dial(ctx, address)
	if err == nil {
		err = writeByte(ctx, conn, first)
	}
	return conn, err
}

// writeByte writes until ctx ends, which closes the connection. The byte goes
// out by itself: to put it before the first message, every write would have to
// go through a wrapper, for which net.Buffers does not gather.
func writeByte(ctx context.Context, conn net.Conn, b byte) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	_, err := conn.Write([]byte{b})
	if !stop() && err == nil {
		err = ctx.Err()
	}
	return err
}

func (m *Mux) dialALPN(ctx context.Context, address raftwire.ServerAddress, protocol string) (net.Conn, error) {
	raw, err := m.dialFor(ctx, address, protocol)
	if err != nil {
		return raw, err
	}
	conn, ok := raw.(*tls.Conn)
	if !ok {
		if m.tls == nil {
			return raw, fmt.Errorf("%v needs TLS: set MuxConfig.TLS, or a Dial that returns a *tls.Conn", ALPN(protocol))
		}
		conn = tls.Client(&sock.TimedConn{Conn: raw}, m.clientTLS(address, protocol))
	}
	return conn, negotiate(ctx, conn, protocol)
}

func (m *Mux) dialFor(ctx context.Context, address raftwire.ServerAddress, protocol string) (net.Conn, error) {
	if m.secured != nil {
		return m.secured.dial(ctx, address, []string{protocol})
	}
	return m.dial(ctx, address)
}

// negotiate closes conn if a function of its configuration panics.
func negotiate(ctx context.Context, conn *tls.Conn, protocol string) error {
	returned := false
	defer func() {
		if !returned {
			sock.Close(conn)
		}
	}()
	err := handshakeFor(ctx, conn, protocol)
	returned = true
	return err
}

func handshakeFor(ctx context.Context, conn *tls.Conn, protocol string) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != protocol {
		return fmt.Errorf("the peer negotiated the protocol %q instead of %q: it has no such layer", got, protocol)
	}
	return nil
}

func (m *Mux) clientTLS(address raftwire.ServerAddress, protocol string) *tls.Config {
	config := withProtocols(m.tls, []string{protocol})
	if host, _, err := net.SplitHostPort(string(address)); err == nil && config.ServerName == "" {
		config.ServerName = host
	}
	return config
}
