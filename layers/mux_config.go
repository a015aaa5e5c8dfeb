package layers

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/sock"
)

const (
	// defaultSortTimeout is generous: a peer says at once what it wants.
	defaultSortTimeout = 10 * time.Second

	defaultMaxUnsorted = 1024
)

// MuxConfig configures a [Mux]. NewMux copies it.
type MuxConfig struct {
	// Listener accepts the connections. Required. It belongs to the Mux, whose
	// Close closes it. It may yield connections of any kind, *tls.Conn too; a
	// layer of another Mux will do, for keys of two bytes. Over a [TLS] every layer
	// is as secure as that one: it verifies each peer, and the Mux adds the
	// protocols of layers with an ALPN key to its NextProtos.
	Listener net.Listener

	// Dial connects to the port of a peer; the Mux then says which layer is
	// meant. nil means what it means to [FromListener].
	Dial DialFunc

	// Advertise is what the layers return from Addr, nil means the address of
	// Listener, as for [FromListener]: set it if that names no host, as that of a
	// listener on ":8300".
	Advertise net.Addr

	// TLS is for layers with an ALPN key, beside layers without TLS on the same port:
	// a connection that comes in is taken for TLS if it begins like it. Layers with an
	// ALPN key dial with TLS, others without. Every peer that comes with TLS is
	// verified, see [TLSConfig]; [Mux.Reload] reloads the certificates. Timeout,
	// MaxUnsorted, Logger and Refused of the MuxConfig replace what TLSConfig has for
	// inbound connections.
	//
	// If nothing is to be spoken without TLS, let Listener be a [TLS] instead. For a
	// *tls.Config of your own, let it be a tls.NewListener, and set Dial.
	TLS *TLSConfig

	// Timeout is how long a connection may take to say for which layer it is,
	// handshake included. 0 means 10 seconds; negative is an error.
	Timeout time.Duration

	// MaxUnsorted is how many connections may not have said so yet. One more
	// evicts the oldest of the host that has most of them. 0 means 1024; negative is
	// an error.
	MaxUnsorted int

	// Logger takes a line for each connection that is refused; nil means
	// standard error, level info.
	Logger hclog.Logger

	// Refused is called for each connection that is refused, as the Refused of
	// raftwire.Hooks is by a transport: metrics take both. It may be nil. It must not
	// block: it would hold up Close for up to a second, but no other connection.
	Refused func(raftwire.RefusalEvent)
}

func (c *MuxConfig) check() error {
	_, secured := c.Listener.(*TLS)
	switch {
	case sock.IsNil(c.Listener):
		return errors.New("raftwire: MuxConfig.Listener is nil: set it, or use NewHandoff for connections that are accepted elsewhere")
	case c.TLS != nil && secured:
		return errors.New("raftwire: MuxConfig.TLS is set, and Listener is a TLS layer, which has a configuration of its own: use one or the other")
	case c.Timeout < 0:
		return fmt.Errorf("raftwire: MuxConfig.Timeout is %v: use 0 for the default, or a positive duration", c.Timeout)
	case c.MaxUnsorted < 0:
		return fmt.Errorf("raftwire: MuxConfig.MaxUnsorted is %d: use 0 for the default, or a positive number", c.MaxUnsorted)
	}
	return nil
}

func (c *MuxConfig) setDefaults() {
	c.Timeout = cmp.Or(c.Timeout, defaultSortTimeout)
	c.MaxUnsorted = cmp.Or(c.MaxUnsorted, defaultMaxUnsorted)
	if c.Logger == nil {
		c.Logger = logs.Default()
	}
	c.Logger = c.Logger.With(logs.KeyLocal, c.Listener.Addr())
	if sock.IsNil(c.Advertise) {
		c.Advertise = addrOf(c.Listener)
	}
}

// identity loads the TLS material, if there is any.
func (c *MuxConfig) identity() (*identity, error) {
	if c.TLS == nil {
		return nil, nil
	}
	config := *c.TLS
	if config.Logger == nil {
		config.Logger = c.Logger
	}
	return newIdentity(config, c.Listener.Addr())
}

// isPlain reports whether no connection that comes in can have TLS. Listeners of
// other makes may bring it along.
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
func (c *MuxConfig) dialFunc() DialFunc {
	if c.Dial != nil {
		return c.Dial
	}
	return dialLike(c.Listener, "set MuxConfig.Dial to what reaches the port of a peer")
}
