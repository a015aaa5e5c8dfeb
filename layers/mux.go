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

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/sniff"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

// Mux shares a port between Raft groups, and with other services: it accepts
// the connections of one listener, and hands each to the layer whose key it
// shows. All methods may be called by several goroutines.
//
// A Mux accepts from the beginning. Until there is a first layer, connections wait for
// it, for Timeout at most. After that, one that shows the key of no layer is closed,
// with a line in the log that says what it looks like. A service that speaks first
// cannot share the port. If somebody else closes the listener, the layers are closed.
type Mux struct {
	dial     DialFunc
	under    raftwire.StreamLayer // what dial dials with, if that is known
	addr     net.Addr
	plain    bool      // no connection that comes in can have TLS
	identity *identity // of MuxConfig.TLS, or nil
	verified bool      // every connection comes with its peer verified
	expiring any       // knows when the certificate of the port expires, if it has one
	inbound  inbound
	first    chan struct{} // closed when there was a layer
	done     chan struct{} // closed when the Mux or its listener is

	open sync.Map // of *net.Conn, what was handed over and is not closed

	mu     sync.Mutex       // protects following
	layers map[Key]*Handoff // nil once done is closed
}

// NewMux returns a Mux without layers. With MuxConfig.TLS it blocks while the
// certificates are read. On an error the listener stays open.
func NewMux(config MuxConfig) (*Mux, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	config.setDefaults()
	identity, err := config.identity()
	if err != nil {
		return nil, err
	}
	dial := config.dialFunc()
	m := &Mux{
		dial: func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
			return sock.CheckConn(dial(ctx, address))
		},
		addr:     config.Advertise,
		plain:    config.isPlain(),
		identity: identity,
		first:    make(chan struct{}),
		done:     make(chan struct{}),
		layers:   make(map[Key]*Handoff),
	}
	m.setUnder(&config)
	m.inbound = inbound{
		acceptor: door.Acceptor{Listener: config.Listener, Logger: config.Logger, Closed: m.closeLayers},
		identify: m.identify,
		door: door.Door{
			MaxUnidentified: config.MaxUnsorted,
			Crowded:         errCrowded,
			Timeout:         config.Timeout,
			Late:            errSlow,
		},
	}
	m.inbound.init(config.Refused)
	if identity != nil {
		m.expiring = identity
		m.inbound.tasks.Start(identity.run)
	}
	m.inbound.open()
	return m, nil
}

var (
	errCrowded = door.Refuse(door.TooManyConns, "too many others came before it said for which layer it is: raise MaxUnsorted if that is what you want")
	errSlow    = door.Refuse(door.Silent, "it did not say in time for which layer it is")
)

// setUnder notes what the listener is, if it is a layer.
func (m *Mux) setUnder(config *MuxConfig) {
	if config.Dial == nil {
		m.under, _ = config.Listener.(raftwire.StreamLayer)
	}
	switch l := config.Listener.(type) {
	case *TLS:
		l.layers, m.verified = m.awaitProtocols, true
	case *Handoff:
		m.verified = l.verified
	}
	m.expiring = config.Listener
}

// Layer returns the layer of connections that show one of the keys. It dials
// with the first: a group can be moved from one key to another, one node at a
// time, by accepting both before any node dials with the new one.
//
// Closing the layer, which a transport over it does, leaves the other layers
// alone and frees its keys.
func (m *Mux) Layer(keys ...Key) (*Handoff, error) {
	layer, err := m.register(slices.Clone(keys)) // the caller may use its slice again
	if err != nil {
		return nil, fmt.Errorf("raftwire: mux: %w", err)
	}
	return layer, nil
}

func (m *Mux) register(keys []Key) (*Handoff, error) {
	if len(keys) == 0 {
		return nil, errors.New("a layer needs a key")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.layers == nil {
		return nil, net.ErrClosed
	}
	for i, key := range keys {
		if err := m.check(key, keys[:i]); err != nil {
			return nil, err
		}
	}
	layer := newHandoff(m.addr, m.dialer(keys[0]))
	layer.under, layer.verified, layer.expiring = m.under, m.verified, m.expiring
	layer.release = func() { m.unregister(keys) }
	for _, key := range keys {
		m.layers[key] = layer
	}
	if !tasks.IsClosed(m.first) {
		close(m.first)
	}
	return layer, nil
}

// check returns what speaks against a key beside those of the layers and others. mu is
// held.
func (m *Mux) check(key Key, others []Key) error {
	if err := key.check(); err != nil {
		return err
	}
	switch {
	case key.kind == keyALPN && m.plain:
		return fmt.Errorf("%v needs TLS: set MuxConfig.TLS, have a TLS layer for MuxConfig.Listener, or use FirstByte", key)
	case key == FirstByte(sniff.TLSHandshake) && m.identity != nil:
		return fmt.Errorf("%v could not be told from TLS: use another", key)
	}
	return key.clash(func(k Key) bool { return m.layers[k] != nil || slices.Contains(others, k) })
}

func (m *Mux) unregister(keys []Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		delete(m.layers, key)
	}
}

// identify finds the layer for an inbound connection.
func (m *Mux) identify(next *door.Visit) (layer *Handoff, err error) {
	if err := m.awaitLayer(); err != nil {
		return nil, err
	}
	if layer, err = m.sort(next); err == nil {
		m.track(next)
	}
	return layer, err
}

// awaitLayer waits until there was a layer, for Timeout at most.
func (m *Mux) awaitLayer() error {
	patience := time.NewTimer(m.inbound.door.Timeout)
	defer patience.Stop()
	select {
	case <-m.first:
	case <-m.done:
	case <-patience.C:
		return errSlow
	}
	if tasks.IsClosed(m.done) {
		return net.ErrClosed
	}
	return nil
}

// sort looks for TLS first: its protocol decides, or else the first byte inside.
func (m *Mux) sort(next *door.Visit) (*Handoff, error) {
	if conn, ok := next.Conn.(*tls.Conn); ok {
		return m.sortSecured(next, conn)
	}
	first, err := readByte(next.Conn)
	if err != nil {
		return nil, err
	}
	if first != sniff.TLSHandshake || m.identity == nil {
		return m.sortFirst(next, first)
	}
	next.Conn = sock.Unread(next.Conn, first)
	if err := m.identity.accept(next, slices.Concat(m.identity.config.NextProtos, m.protocols()), m.inbound.report); err != nil {
		return nil, err
	}
	return m.sortSecured(next, next.Conn.(*tls.Conn))
}

func (m *Mux) sortSecured(next *door.Visit, conn *tls.Conn) (*Handoff, error) {
	if err := conn.Handshake(); err != nil { // a listener may have left it to us
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	protocol := conn.ConnectionState().NegotiatedProtocol
	if layer := m.layer(ALPN(protocol)); layer != nil {
		next.Identified = true
		return layer, nil
	}
	first, err := readByte(conn)
	if err != nil {
		return nil, err
	}
	layer, err := m.sortFirst(next, first)
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
func (m *Mux) sortFirst(next *door.Visit, first byte) (*Handoff, error) {
	if layer := m.layer(FirstByte(first)); layer != nil {
		next.Identified = true
		return layer, nil
	}
	if layer := m.layer(Unprefixed()); layer != nil && first < sniff.RaftKinds {
		next.Conn = sock.Unread(next.Conn, first)
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

// layer returns the layer of a key, or nil.
func (m *Mux) layer(key Key) *Handoff {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.layers[key]
}

// awaitProtocols returns the protocols for a TLS layer under the Mux.
func (m *Mux) awaitProtocols() []string {
	_ = m.awaitLayer()
	return m.protocols()
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

// track counts a connection until it is closed.
func (m *Mux) track(next *door.Visit) {
	conn, before := next.Conn, next.Ended
	key := &conn
	m.open.Store(key, nil)
	next.Ended = func() {
		m.open.Delete(key)
		if before != nil {
			before()
		}
	}
}

// Conns returns how many connections the layers have handed over that are open still.
// Those that a listener yields as a *tls.Conn count only while a NetworkTransport has
// them.
func (m *Mux) Conns() (count int) {
	for range m.open.Range {
		count++
	}
	return count
}

// CloseConns closes the connections that Conns counts. The Mux and its layers continue.
func (m *Mux) CloseConns() {
	for conn := range m.open.Range {
		sock.Close(*conn.(*net.Conn))
	}
}

// Reload reads the certificates of MuxConfig.TLS now: see [TLS.Reload].
func (m *Mux) Reload() error {
	if m.identity == nil {
		return errors.New("raftwire: mux: there is nothing to reload: MuxConfig.TLS is nil")
	}
	return m.identity.Reload()
}

// Refusals returns which connections were refused since the Mux was made: those
// that others replaced (TooManyConns), that said nothing in time (Silent), showed the
// key of no layer (Foreign), or failed in their TLS handshake (Untrusted). It does not
// block.
func (m *Mux) Refusals() raftwire.Refusals {
	return door.Counts[raftwire.Refusals](&m.inbound.refusals)
}

// Close closes the listener and every layer. Connections that were accepted from a
// layer stay open: see [Mux.CloseConns]. It returns the error of the listener's Close, so
// a second call usually returns net.ErrClosed, and so does one after somebody else has
// closed the listener.
func (m *Mux) Close() error {
	if m.identity != nil {
		m.identity.close()
	}
	m.closeLayers()
	return m.inbound.close()
}

func (m *Mux) closeLayers() {
	for _, layer := range m.takeLayers() {
		m.inbound.closeLayer(layer)
	}
}

func (m *Mux) takeLayers() map[Key]*Handoff {
	m.mu.Lock()
	defer m.mu.Unlock()
	layers := m.layers
	m.layers = nil
	if layers != nil {
		close(m.done)
	}
	return layers
}
