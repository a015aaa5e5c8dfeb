package layers_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// smallRequest is a TimeoutNow on the wire.
const smallRequest = "\x03\x80"

// rekeyingConn is a TLS 1.3 peer that can update its keys, which crypto/tls cannot
// ask for. It reads as a tls.Conn, and writes records of its own.
type rekeyingConn struct {
	*tls.Conn
	raw    net.Conn
	secret []byte // that its keys come from
	aead   cipher.AEAD
	iv     []byte
	sent   uint64 // records with these keys
}

// rekeying does the handshake of either end; traffic names the secret of its output.
func rekeying(t *testing.T, raw net.Conn, make func(net.Conn, *tls.Config) *tls.Conn, traffic string, config *tls.Config) *rekeyingConn {
	t.Helper()
	log := new(bytes.Buffer)
	config.KeyLogWriter = log
	config.SessionTicketsDisabled = true // a ticket would be a record as well
	c := &rekeyingConn{Conn: make(raw, config), raw: raw}
	require.NoError(t, c.Handshake())
	require.Equal(t, tls.TLS_AES_128_GCM_SHA256, c.ConnectionState().CipherSuite, "the only suite that the test knows")
	_, rest, found := strings.Cut(log.String(), traffic+" ")
	require.True(t, found)
	secret, err := hex.DecodeString(strings.Fields(rest)[1])
	require.NoError(t, err)
	c.setSecret(secret)
	return c
}

func (c *rekeyingConn) setSecret(secret []byte) {
	block, _ := aes.NewCipher(expandLabel(secret, "key", 16))
	c.aead, _ = cipher.NewGCM(block)
	c.secret, c.iv, c.sent = secret, expandLabel(secret, "iv", 12), 0
}

// expandLabel is HKDF-Expand-Label of RFC 8446, 7.1, without a context.
func expandLabel(secret []byte, label string, length int) []byte {
	label = "tls13 " + label
	info := append([]byte{0, byte(length), byte(len(label))}, label...)
	key, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), length)
	if err != nil {
		panic(err)
	}
	return key
}

const (
	recordHandshake   = 22
	recordApplication = 23
)

func (c *rekeyingConn) Write(p []byte) (int, error) {
	return len(p), c.writeRecord(recordApplication, p)
}

func (c *rekeyingConn) writeRecord(kind byte, p []byte) error {
	header := []byte{recordApplication, 3, 3}
	header = binary.BigEndian.AppendUint16(header, uint16(len(p)+1+c.aead.Overhead()))
	nonce := bytes.Clone(c.iv)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^c.sent)
	c.sent++
	_, err := c.raw.Write(c.aead.Seal(header, nonce, append(bytes.Clone(p), kind), header))
	return err
}

// updateKeys changes the keys of its output, and asks the other end to do the same.
func (c *rekeyingConn) updateKeys() error {
	const keyUpdate, updateRequested = 24, 1
	err := c.writeRecord(recordHandshake, []byte{keyUpdate, 0, 0, 1, updateRequested})
	c.setSecret(expandLabel(c.secret, "traffic upd", sha256.Size))
	return err
}

// Close ends the connection without close_notify.
func (c *rekeyingConn) Close() error { return c.raw.Close() }

// rekeyedLayers are layers over TLS of all makes, on a host of a network. Protocol
// is what a client has to ask for.
var rekeyedLayers = map[string]struct {
	protocol string
	listen   func(t *testing.T, network *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer
}{
	"TLS": {"", func(t *testing.T, network *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer {
		return secureLayer(t, network, host, secure(ca.Issue(), ca))
	}},
	"Mux over TLS": {"raft", func(t *testing.T, network *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer {
		return layerOf(t, secureMux(t, network, host, secure(ca.Issue(), ca)), layers.ALPN("raft"))
	}},
	"TLS in a Mux": {"raft", func(t *testing.T, network *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer {
		mux := share(t, network, host, withTLS(secure(ca.Issue(), ca)))
		return layerOf(t, mux, layers.ALPN("raft"))
	}},
	"the layer's own TLS": {"", func(t *testing.T, network *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer {
		layer, err := network.Host(host).Listen()
		require.NoError(t, err)
		return ownTLS{layer, mutual(ca, role)}
	}},
}

// rekeyingConfig is that of a peer that verifies as nodes do.
func rekeyingConfig(ca *testca.Authority, protocol string) *tls.Config {
	config := mutual(ca, role)
	if protocol != "" {
		config.NextProtos = []string{protocol}
	}
	return config
}

// ask sends a request over an inbound connection of the transport, and takes its
// answer.
func ask(t *testing.T, c *rekeyingConn) {
	t.Helper()
	_, err := io.WriteString(c, smallRequest)
	require.NoError(t, err)
	_ = c.SetReadDeadline(time.Now().Add(testTimeout))
	_, err = c.Read(make([]byte, 4096))
	require.NoError(t, err)
}

// A session answers an update of keys when it reads it. That it has written nothing
// for longer than Timeout does not matter.
func TestKeyUpdate_DoesNotEndAnIdleSession(t *testing.T) {
	for name, c := range rekeyedLayers {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				serve(t, transport(t, withStream(c.listen(t, net, "b", ca))), accept)
				peer := rekeying(t, dialRaw(t, net, "a"), tls.Client, "CLIENT_TRAFFIC_SECRET_0", rekeyingConfig(ca, c.protocol))
				ask(t, peer)
				for range 3 {
					pause(3 * testTimeout)
					require.NoError(t, peer.updateKeys())
					synctest.Wait()
					ask(t, peer)
				}
			})
		})
	}
}

// rekeyingServer accepts one connection and answers each request on it.
type rekeyingServer struct {
	listener net.Listener
	conn     chan *rekeyingConn // yields it after its handshake
	accepted int
	ended    chan struct{}
}

func listenRekeying(t *testing.T, network *faultnet.Network, host string, config *tls.Config) *rekeyingServer {
	layer, err := network.Host(host).Listen()
	require.NoError(t, err)
	s := &rekeyingServer{listener: layer, conn: make(chan *rekeyingConn, 1), ended: make(chan struct{})}
	go s.run(t, config)
	t.Cleanup(func() { require.NoError(t, layer.Close()); <-s.ended })
	return s
}

func (s *rekeyingServer) run(t *testing.T, config *tls.Config) {
	defer close(s.ended)
	for raw, err := s.listener.Accept(); err == nil; raw, err = s.listener.Accept() {
		s.accepted++
		s.serve(rekeying(t, raw, tls.Server, "SERVER_TRAFFIC_SECRET_0", config))
	}
}

func (s *rekeyingServer) serve(c *rekeyingConn) {
	defer func() { _ = c.Close() }()
	s.conn <- c
	request := make([]byte, 4096)
	for _, err := c.Read(request); err == nil; _, err = c.Read(request) {
		if _, err := io.WriteString(c, "\xa0\xc0"); err != nil { // no error, the zero response
			return
		}
	}
}

// The dialling side as well: a pipeline, and a connection in the pool.
func TestKeyUpdate_DoesNotEndAnIdleDialledConnection(t *testing.T) {
	for name, c := range rekeyedLayers {
		for kind, open := range map[string]func(t *testing.T, a *raftwire.NetworkTransport) (use func() error){
			"pipeline": func(t *testing.T, a *raftwire.NetworkTransport) func() error {
				p := openPipeline(t, a, "b")
				return func() error { return appendTo(p) }
			},
			"pooled": func(_ *testing.T, a *raftwire.NetworkTransport) func() error {
				return func() error { return appendOnce(a, "b") }
			},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					ca := testca.New()
					server := listenRekeying(t, net, "b", rekeyingConfig(ca, c.protocol))
					use := open(t, transport(t, withStream(c.listen(t, net, "a", ca))))
					require.NoError(t, use())
					conn := <-server.conn
					for range 3 {
						pause(3 * testTimeout)
						require.NoError(t, conn.updateKeys())
						synctest.Wait()
						require.NoError(t, use())
					}
					require.Equal(t, 1, server.accepted, "the connection was replaced")
				})
			})
		}
	}
}

// Neither does it end a snapshot whose follower restores for longer than a write may
// stall.
func TestKeyUpdate_DoesNotEndASnapshotThatIsRestored(t *testing.T) {
	const size, restore = 100_000, 10 * time.Minute
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		listener, err := net.Host("b").Listen()
		require.NoError(t, err)
		defer func() { require.NoError(t, listener.Close()) }()
		go func() {
			raw, _ := listener.Accept()
			peer := rekeying(t, raw, tls.Server, "SERVER_TRAFFIC_SECRET_0", rekeyingConfig(ca, ""))
			_, _ = io.ReadFull(peer, make([]byte, size))
			_ = peer.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = io.Copy(io.Discard, peer) // as many bytes as the request has
			pause(restore / 2)
			assert.NoError(t, peer.updateKeys())
			synctest.Wait()
			_, _ = io.WriteString(peer, "\xa0\xc0") // no error, the zero response
			_ = peer.Close()
		}()
		a := transport(t, withStream(rekeyedLayers["TLS"].listen(t, net, "a", ca)), func(c *raftwire.NetworkTransportConfig) { c.RestoreTimeout = restore })
		_, err = install(a, size, io.LimitReader(zeros{}, size))
		require.NoError(t, err)
	})
}

// A peer that asks for an update and does not read the answer holds up its session, but
// not for ever. Then that ends: with a part of a record on its way TLS cannot go on.
func TestKeyUpdate_OfAPeerThatDoesNotReadEndsItsSession(t *testing.T) {
	for name, c := range rekeyedLayers {
		if name == "the layer's own TLS" {
			continue // its writes are its own
		}
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				net.SetBuffer(10) // less than an answer
				ca := testca.New()
				b := transport(t, withStream(c.listen(t, net, "b", ca)))
				serve(t, b, accept)
				peer := rekeying(t, dialRaw(t, net, "a"), tls.Client, "CLIENT_TRAFFIC_SECRET_0", rekeyingConfig(ca, c.protocol))
				ask(t, peer)
				pause(3 * testTimeout)
				require.NoError(t, peer.updateKeys())
				_ = peer.raw.SetWriteDeadline(time.Now().Add(testTimeout + prompt))
				_, err := io.WriteString(peer, smallRequest)
				require.NoError(t, err, "the session does not read")
				pause(testTimeout) // for an alert that says why
				synctest.Wait()
				require.Empty(t, b.Stats().Inbound)
			})
		})
	}
}
