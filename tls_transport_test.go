package raftwire_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// role is the name of every node in these tests, wherever it runs.
const role = testca.Name

func named(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

func expiringIn(d time.Duration) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotAfter = time.Now().Add(d) }
}

func usedFor(usages ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
}

// secure returns the configuration of a node that shows certificate and trusts
// the authorities.
func secure(certificate *tls.Certificate, trusted ...*testca.Authority) raftwire.TLSConfig {
	return raftwire.TLSConfig{
		Load:       func() (*tls.Certificate, *x509.CertPool, error) { return certificate, testca.Pool(trusted...), nil },
		ServerName: role,
		Logger:     hclog.NewNullLogger(),
	}
}

// secureLayer returns a layer on a host of net.
func secureLayer(t testing.TB, net *faultnet.Network, host string, config raftwire.TLSConfig) *raftwire.TLSStreamLayer {
	t.Helper()
	inner, err := net.Host(host).Listen()
	require.NoError(t, err)
	layer, err := raftwire.NewTLSStreamLayer(inner, config)
	require.NoError(t, err)
	return layer
}

func withStream(layer raftwire.StreamLayer) option {
	return func(c *raftwire.NetworkTransportConfig) { c.Stream = layer }
}

// transport makes a transport that is closed when the test ends.
func transport(t testing.TB, options ...option) *raftwire.NetworkTransport {
	t.Helper()
	trans := raftwire.NewNetworkTransportWithConfig(config(options...))
	t.Cleanup(func() { require.NoError(t, trans.Close()) })
	return trans
}

// listenTLS starts a transport over TLS on a host of net.
func listenTLS(t testing.TB, net *faultnet.Network, host string, security raftwire.TLSConfig, options ...option) (*raftwire.NetworkTransport, *raftwire.TLSStreamLayer) {
	t.Helper()
	layer := secureLayer(t, net, host, security)
	return transport(t, append(options, withStream(layer))...), layer
}

func logTo(w io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: w, Level: hclog.Debug})
}

// onFakeTLS is onFakeTime with a CA, a node b that serves, and its log.
func onFakeTLS(t *testing.T, test func(t *testing.T, w *tlsWorld)) *tlsWorld {
	t.Helper()
	w := &tlsWorld{log: new(bytes.Buffer)}
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		w.net, w.ca = net, testca.New()
		security := secure(w.ca.Issue(), w.ca)
		security.Logger = hclog.New(&hclog.LoggerOptions{Output: w.log, Level: hclog.Debug})
		w.b, w.layer = listenTLS(t, net, "b", security)
		serve(t, w.b, accept)
		test(t, w)
	})
	return w
}

type tlsWorld struct {
	net   *faultnet.Network
	ca    *testca.Authority
	b     *raftwire.NetworkTransport
	layer *raftwire.TLSStreamLayer // of b
	log   *bytes.Buffer            // to be read after the test
}

// node starts another node, with a certificate of the CA.
func (w *tlsWorld) node(t *testing.T, host string, changes ...func(*x509.Certificate)) *raftwire.NetworkTransport {
	t.Helper()
	node, _ := listenTLS(t, w.net, host, secure(w.ca.Issue(changes...), w.ca))
	return node
}

// requireOneWarning checks that the log has one line that matters, with text.
func (w *tlsWorld) requireOneWarning(t *testing.T, text string) {
	t.Helper()
	require.Equal(t, 1, strings.Count(w.log.String(), "[WARN]"), w.log)
	require.NotContains(t, w.log.String(), "[ERROR]")
	require.Contains(t, w.log.String(), text)
	require.Contains(t, w.log.String(), "peer=a:")
}

// A node that is not to be let in is refused each time, is told why, and the
// log says so, once for many.
func TestAnUnwantedNodeIsRefusedVisibly(t *testing.T) {
	for name, c := range map[string]struct {
		security  func(t *testing.T, ca *testca.Authority) raftwire.TLSConfig
		log, told string
	}{
		"of another CA": {
			func(t *testing.T, ca *testca.Authority) raftwire.TLSConfig { return secure(testca.New().Issue(), ca) },
			`the certificate \"server.dc1.consul\" does not hold: x509: certificate signed by unknown authority`,
			"tls: unknown certificate authority",
		},
		"with another role": {
			func(t *testing.T, ca *testca.Authority) raftwire.TLSConfig {
				return secure(ca.Issue(named("client.dc1.consul")), ca)
			},
			`the peer with the certificate \"client.dc1.consul\" is not authorized: its certificate must have the name server.dc1.consul`,
			"tls: bad certificate",
		},
		"with a certificate that has expired": {
			func(t *testing.T, ca *testca.Authority) raftwire.TLSConfig {
				return secure(ca.Issue(expiringIn(time.Minute)), ca)
			},
			"x509: certificate has expired",
			"tls: expired certificate",
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
				a, _ := listenTLS(t, w.net, "a", c.security(t, w.ca))
				pause(2 * time.Minute)
				for kind, call := range calls {
					require.ErrorContains(t, call(a, "b"), c.told, kind)
				}
				synctest.Wait()
				require.EqualValues(t, len(calls), w.layer.Refusals().Untrusted)
				require.NoError(t, appendOnce(w.node(t, "c"), "b"))
			}).requireOneWarning(t, c.log)
		})
	}
}

// And so is anything else that knocks.
func TestAnUnwantedClientIsRefusedVisibly(t *testing.T) {
	for name, c := range map[string]struct {
		knock   func(t *testing.T, w *tlsWorld, conn net_)
		log     string
		refused raftwire.Refusals
	}{
		"a Raft peer without TLS": {
			func(t *testing.T, w *tlsWorld, conn net_) { say(t, conn, "\x00\x89\xa4Addr\xc0") },
			"no TLS, and nothing else is spoken here: this looks like a Raft peer without TLS",
			raftwire.Refusals{Foreign: 1},
		},
		"a browser": {
			func(t *testing.T, w *tlsWorld, conn net_) { say(t, conn, "GET / HTTP/1.1\r\n\r\n") },
			"no TLS, and nothing else is spoken here: this looks like an HTTP request",
			raftwire.Refusals{Foreign: 1},
		},
		"a client without a certificate": {
			func(t *testing.T, w *tlsWorld, conn net_) {
				client := tls.Client(conn, &tls.Config{RootCAs: testca.Pool(w.ca), ServerName: role})
				_, err := client.Read(make([]byte, 1))
				require.ErrorContains(t, err, "certificate required")
			},
			"TLS handshake: tls: client didn't provide a certificate",
			raftwire.Refusals{Untrusted: 1},
		},
		"a client that speaks TLS 1.2": {
			func(t *testing.T, w *tlsWorld, conn net_) {
				client := tls.Client(conn, &tls.Config{RootCAs: testca.Pool(w.ca), ServerName: role, MaxVersion: tls.VersionTLS12})
				require.ErrorContains(t, client.Handshake(), "protocol version not supported")
			},
			"TLS handshake: tls: client offered only unsupported versions",
			raftwire.Refusals{Untrusted: 1},
		},
		"a client that does not trust this node": {
			func(t *testing.T, w *tlsWorld, conn net_) {
				client := tls.Client(conn, &tls.Config{RootCAs: testca.Pool(testca.New()), ServerName: role})
				require.ErrorContains(t, client.Handshake(), "unknown authority")
			},
			"the peer does not want this node: remote error: tls: bad certificate",
			raftwire.Refusals{Untrusted: 1},
		},
		"somebody who says nothing": {
			func(t *testing.T, w *tlsWorld, conn net_) {
				require.Equal(t, 10*time.Second, elapsed(func() { _, _ = conn.Read(make([]byte, 1)) }))
			},
			"its TLS handshake was not over in time",
			raftwire.Refusals{Silent: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
				conn := dialRaw(t, w.net, "a")
				c.knock(t, w, conn)
				_, err := io.ReadAll(conn)
				if err != nil {
					require.ErrorContains(t, err, "reset") // it was closed with input unread
				}
				require.NoError(t, conn.Close())
				synctest.Wait()
				require.Equal(t, c.refused, w.layer.Refusals())
				require.NoError(t, appendOnce(w.node(t, "c"), "b"))
			}).requireOneWarning(t, c.log)
		})
	}
}

// A scan of ports is nothing to write about.
func TestAPortScanIsNotLoggedByTLS(t *testing.T) {
	w := onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
		for _, beginning := range []string{"", "\x16", "\x16\x03\x01\x00"} {
			conn := dialRaw(t, w.net, "a")
			say(t, conn, beginning)
			require.NoError(t, conn.Close())
		}
		synctest.Wait()
		require.Zero(t, w.layer.Refusals())
	})
	require.Equal(t, 3, strings.Count(w.log.String(), "connection ended"), w.log)
	require.NotContains(t, w.log.String(), "[WARN]")
	require.NotContains(t, w.log.String(), "[ERROR]")
}

// The first hosts that are refused are named, but no more of them than a log can
// bear: lines of a kind are limited over all hosts.
func TestRefusalsOfManyHostsAreLoggedWithinReason(t *testing.T) {
	w := onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
		for i := range 1000 {
			conn := dialRaw(t, w.net, fmt.Sprintf("10.0.%d.%d", i/256, i%256))
			client := tls.Client(conn, &tls.Config{RootCAs: testca.Pool(w.ca), ServerName: role})
			_, err := client.Read(make([]byte, 1))
			require.ErrorContains(t, err, "certificate required")
			require.NoError(t, conn.Close())
			synctest.Wait()
		}
	})
	require.Equal(t, 8, strings.Count(w.log.String(), "[WARN]"), "the first hosts, and no more")
}

// The dialling side verifies as well, and its error says what is wrong.
func TestDiallingVerifiesThePeer(t *testing.T) {
	for name, c := range map[string]struct {
		security func(t *testing.T, ca *testca.Authority) raftwire.TLSConfig // of the peer
		text     string
	}{
		"of another CA": {
			func(t *testing.T, ca *testca.Authority) raftwire.TLSConfig { return secure(testca.New().Issue(), ca) },
			"AppendEntries to c: dial: TLS handshake: tls: failed to verify certificate: x509: certificate signed by unknown authority",
		},
		"with another role": {
			func(t *testing.T, ca *testca.Authority) raftwire.TLSConfig {
				return secure(ca.Issue(named("client.dc1.consul")), ca)
			},
			"certificate is valid for client.dc1.consul, not server.dc1.consul",
		},
		"with a certificate that has expired": {
			func(t *testing.T, ca *testca.Authority) raftwire.TLSConfig {
				return secure(ca.Issue(expiringIn(time.Minute)), ca)
			},
			"certificate has expired",
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
				peer, _ := listenTLS(t, w.net, "c", c.security(t, w.ca))
				serve(t, peer, func(raftwire.RPC) { t.Error("a request was delivered") })
				pause(2 * time.Minute)
				require.ErrorContains(t, appendOnce(w.b, "c"), c.text)
			})
		})
	}
}

// There is no way back to plain connections, whichever side lacks TLS.
func TestThereIsNoPlaintextFallback(t *testing.T) {
	onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
		plain := listen(t, w.net, "a")
		serve(t, plain, func(raftwire.RPC) { t.Error("a request was delivered") })
		require.ErrorContains(t, appendOnce(w.b, "a"), "dial: TLS handshake: the peer closed the connection (does it accept TLS there?)")
		require.Error(t, appendOnce(plain, "b"))

		browser, err := w.net.Host("c").Listen()
		require.NoError(t, err)
		defer func() { require.NoError(t, browser.Close()) }()
		go func() {
			conn, err := browser.Accept()
			if err == nil {
				_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.9\r\n")
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}
		}()
		require.ErrorContains(t, appendOnce(w.b, "c"), "the peer does not speak TLS: it looks like an SSH server")
		synctest.Wait()
	})
}

// Peers are verified by the name that is expected, also where addresses are no
// names.
func TestTheNameExpectedOfAPeer(t *testing.T) {
	const address = "10.0.0.7:8300"
	ip := func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(10, 0, 0, 7)} }
	byHost := func(c *raftwire.TLSConfig) { c.ServerName = "" }
	byFunction := func(c *raftwire.TLSConfig) {
		c.ServerNameFor = func(a raftwire.ServerAddress) string {
			return map[raftwire.ServerAddress]string{address: "node-7"}[a]
		}
	}
	for name, c := range map[string]struct {
		certificate func(*x509.Certificate) // of the peer
		dialling    func(*raftwire.TLSConfig)
		text        string
	}{
		"the role at an IP":                   {named(role), func(*raftwire.TLSConfig) {}, ""},
		"another role at an IP":               {named("client.dc1.consul"), func(*raftwire.TLSConfig) {}, "not " + role},
		"the IP itself":                       {ip, byHost, ""},
		"the IP, which is not in it":          {named(role), byHost, "doesn't contain any IP SANs"},
		"the name of the node at an IP":       {named("node-7"), byFunction, ""},
		"the name of another node at an IP":   {named("node-8"), byFunction, "not node-7"},
		"a role that only a wildcard matches": {named("*.dc1.consul"), func(*raftwire.TLSConfig) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				anybody := secure(ca.Issue(c.certificate), ca)
				anybody.ServerName = ""
				peer, _ := listenTLS(t, net, address, anybody)
				serve(t, peer, accept)
				security := secure(ca.Issue(), ca)
				c.dialling(&security)
				a, _ := listenTLS(t, net, "a", security)
				if err := appendOnce(a, address); c.text == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, c.text)
				}
			})
		})
	}
}

func TestAnAddressWithoutAHostNeedsAServerName(t *testing.T) {
	onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
		security := secure(w.ca.Issue(), w.ca)
		security.ServerName = ""
		a, _ := listenTLS(t, w.net, "a", security)
		for _, address := range []raftwire.ServerAddress{":8300", "unix:/run/raft.sock"} {
			require.ErrorContains(t, appendOnce(a, address), fmt.Sprintf("no name to verify in the address %q: set TLSConfig.ServerName", address))
		}
	})
}

// A path says nothing about who listens there, so the name has to be known.
func TestTLSOverUnixSockets(t *testing.T) {
	ca := testca.New()
	over := func() *raftwire.NetworkTransport {
		layer, err := raftwire.NewTLSStreamLayer(newLayer(t, raftwire.TCPConfig{Bind: "unix:" + unixSocket(t)}), secure(ca.Issue(), ca))
		require.NoError(t, err)
		return transport(t, withStream(layer), withTimeout(10*time.Second))
	}
	a, b := over(), over()
	serve(t, b, accept)
	for kind, call := range calls {
		require.NoError(t, call(a, b.LocalAddr()), kind)
	}
}

// Authorize has the last word on either side, and gets what it needs for it.
func TestAuthorize(t *testing.T) {
	spiffe, err := url.Parse("spiffe://cluster/raft")
	require.NoError(t, err)
	identified := func(c *x509.Certificate) { c.URIs = []*url.URL{spiffe} }
	for name, c := range map[string]struct {
		authorize   func(*raftwire.TLSPeer) error
		certificate func(*x509.Certificate)
		text        string
	}{
		"a name":              {raftwire.AllowNames("x", role), named(role), ""},
		"another name":        {raftwire.AllowNames("x", "y"), named(role), "its certificate must have the name x or y"},
		"a role":              {raftwire.AllowRole("server", "dc2.consul", "dc1.consul"), named(role), ""},
		"a role elsewhere":    {raftwire.AllowRole("server", "dc2.consul"), named(role), "must have the name server.dc2.consul"},
		"a longer name":       {raftwire.AllowNames("dc1.consul"), named(role), "must have the name dc1.consul"},
		"a URI":               {raftwire.AllowNames("spiffe://cluster/raft"), identified, ""},
		"another URI":         {raftwire.AllowNames("spiffe://cluster/raft/2"), identified, "must have the name spiffe://cluster/raft/2"},
		"nobody":              {raftwire.AllowNames(), named(role), "is not authorized"},
		"an error of its own": {func(*raftwire.TLSPeer) error { return errors.New("revoked") }, named(role), "is not authorized: revoked"},
	} {
		for _, side := range []string{"inbound", "dialled"} {
			t.Run(name+" "+side, func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					ca := testca.New()
					var seen []string
					strict := secure(ca.Issue(), ca)
					strict.ServerName = ""
					strict.ServerNameFor = func(raftwire.ServerAddress) string { return role }
					strict.Authorize = func(p *raftwire.TLSPeer) error {
						host, _, _ := strings.Cut(string(p.Address), ":")
						seen = append(seen, fmt.Sprint(host, " inbound ", p.Inbound))
						require.Equal(t, ca.Certificate.Raw, p.Chains[0][1].Raw)
						return c.authorize(p)
					}
					a, _ := listenTLS(t, net, "a", strict)
					b, _ := listenTLS(t, net, "b", secure(ca.Issue(c.certificate, both(role)), ca))
					serve(t, a, accept)
					serve(t, b, accept)
					from, to, text := a, raftwire.ServerAddress("b"), c.text
					if side == "inbound" {
						from, to = b, "a"
						if text != "" {
							text = "bad certificate" // the reason is for the log
						}
					}
					if err := appendOnce(from, to); text == "" {
						require.NoError(t, err)
					} else {
						require.ErrorContains(t, err, text)
					}
					require.Equal(t, []string{fmt.Sprint("b inbound ", side == "inbound")}, seen)
				})
			})
		}
	}
}

// both adds a name that the test needs to one that it is about.
func both(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		if c.DNSNames[0] != name {
			c.DNSNames = append(c.DNSNames, name)
		}
	}
}

// Clients that stall in their handshake hold up nobody, and go when their time
// is over.
func TestStalledHandshakesHoldUpNobody(t *testing.T) {
	onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
		begun := time.Now()
		var stalled []net_
		for _, beginning := range []string{"", "\x16", "\x16\x03\x01\x00\x40\x01"} {
			for range 10 {
				conn := dialRaw(t, w.net, "a")
				say(t, conn, beginning)
				stalled = append(stalled, conn)
			}
		}
		synctest.Wait()
		c := w.node(t, "c")
		require.Zero(t, elapsed(func() { require.NoError(t, appendOnce(c, "b")) }))
		for _, conn := range stalled {
			_, err := io.ReadAll(conn)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		require.Equal(t, 10*time.Second, time.Since(begun))
		synctest.Wait()
		require.Equal(t, raftwire.Refusals{Silent: 30}, w.layer.Refusals())
	})
}

// A dial ends in time as well, if the peer stalls.
func TestAStalledHandshakeEndsTheDial(t *testing.T) {
	for name, c := range map[string]struct {
		timeout, handshake, ends time.Duration
	}{
		"by the transport's timeout": {time.Second, 0, time.Second},
		"by its own":                 {time.Minute, 2 * time.Second, 2 * time.Second},
		"by the default":             {0, 0, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
				security := secure(w.ca.Issue(), w.ca)
				security.HandshakeTimeout = c.handshake
				a, _ := listenTLS(t, w.net, "a", security, withTimeout(c.timeout))
				silent, err := w.net.Host("silent").Listen()
				require.NoError(t, err)
				defer func() { require.NoError(t, silent.Close()) }()
				require.Equal(t, c.ends, elapsed(func() { err = appendOnce(a, "silent") }))
				requireTimeout(t, err)
			})
		})
	}
}

// P4: and Close does not wait for one.
func TestCloseEndsHandshakes(t *testing.T) {
	onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
		silent, err := w.net.Host("silent").Listen()
		require.NoError(t, err)
		dialled := make(chan error, 1)
		go func() { dialled <- appendOnce(w.b, "silent") }()
		inbound := dialRaw(t, w.net, "a")
		say(t, inbound, "\x16\x03\x01\x00\x40\x01")
		synctest.Wait()
		require.Zero(t, elapsed(func() {
			require.NoError(t, w.b.Close())
			require.True(t, <-dialled == raftwire.ErrTransportShutdown)
		}))
		_, err = inbound.Read(make([]byte, 1))
		require.Error(t, err)
		require.NoError(t, silent.Close())
	})
}

// P4: calls in flight do not wait for an Authorize that hangs.
func TestCloseDoesNotWaitForAuthorize(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		hang := make(chan struct{})
		security := secure(ca.Issue(), ca)
		security.Authorize = func(p *raftwire.TLSPeer) error {
			if p.Inbound {
				<-hang
			}
			return nil
		}
		b, _ := listenTLS(t, net, "b", security)
		c, _ := listenTLS(t, net, "c", secure(ca.Issue(), ca))
		serve(t, c, never)
		inFlight, refused := make(chan error, 1), make(chan error, 1)
		go func() { inFlight <- appendOnce(b, "c") }()
		go func() { refused <- appendOnce(c, "b") }()
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- b.Close() }()
		require.LessOrEqual(t, elapsed(func() { require.True(t, <-inFlight == raftwire.ErrTransportShutdown) }), prompt)
		close(hang)
		require.NoError(t, <-closed)
		require.Error(t, <-refused)
	})
}

// A crowd of stalled handshakes is bounded, and keeps nobody out.
func TestTheOldestHandshakeMakesRoom(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		security := secure(ca.Issue(), ca)
		security.MaxHandshakes = 3
		b, layer := listenTLS(t, net, "b", security)
		serve(t, b, accept)
		var crowd []net_
		for range 5 {
			crowd = append(crowd, dialRaw(t, net, "a"))
			synctest.Wait()
		}
		for i, conn := range crowd {
			require.Equal(t, i >= 2, isOpen(conn), i)
		}
		c, _ := listenTLS(t, net, "c", secure(ca.Issue(), ca))
		require.NoError(t, appendOnce(c, "b"))
		synctest.Wait()
		require.EqualValues(t, 3, layer.Refusals().TooManyConns)
	})
}

// files are a node's certificate, key and CAs on disk.
type files struct{ testca.Files }

func newFiles(t testing.TB, certificate *tls.Certificate, trusted ...*testca.Authority) files {
	return files{testca.WriteFiles(t.TempDir(), certificate, trusted...)}
}

func spoil(t testing.TB, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

func (f files) secure() raftwire.TLSConfig {
	return raftwire.TLSConfig{
		CertFile: f.Cert(), KeyFile: f.Key(), CAFile: f.CA(),
		ServerName: role, Logger: hclog.NewNullLogger(),
	}
}

// A new certificate is used by the first handshake after ReloadInterval,
// without a call. Nothing happens to connections that stand.
func TestCertificateFilesAreReloaded(t *testing.T) {
	for interval, expected := range map[time.Duration]time.Duration{0: time.Second, time.Minute: time.Minute, -1: 0} {
		t.Run(fmt.Sprint(interval), func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				f := newFiles(t, ca.Issue(serial(1)), ca)
				security := f.secure()
				security.ReloadInterval, security.Logger = interval, logTo(&log)
				_, b := listenTLS(t, net, "b", security)
				sees := func() int64 { return serialOf(t, net, ca, "b") }

				require.EqualValues(t, 1, sees())
				f.Certify(ca.Issue(serial(2)))
				pause(expected - 1)
				require.EqualValues(t, 1, sees())
				if interval < 0 {
					pause(24 * time.Hour)
					require.EqualValues(t, 1, sees())
					require.NoError(t, b.Reload())
				} else {
					pause(1)
					synctest.Wait() // the files are read
				}
				require.EqualValues(t, 2, sees())
				pause(time.Hour)
				require.EqualValues(t, 2, sees())
			})
			require.Equal(t, 1, strings.Count(log.String(), "TLS certificates reloaded: local=b"), log.String())
		})
	}
}

func serial(n int64) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.SerialNumber = big.NewInt(n) }
}

// serialOf returns the serial number of the certificate that a host shows.
func serialOf(t *testing.T, net *faultnet.Network, ca *testca.Authority, host string) int64 {
	t.Helper()
	raw, err := net.Host("peer").Dial(t.Context(), host)
	require.NoError(t, err)
	conn := tls.Client(raw, &tls.Config{RootCAs: testca.Pool(ca), ServerName: role, Certificates: []tls.Certificate{*ca.Issue()}})
	require.NoError(t, conn.Handshake())
	require.NoError(t, conn.Close())
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// What Load returns is used in the same way.
func TestLoadIsAskedAgain(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		var number, loads atomic.Int64 // Load runs on a goroutine of the layer
		number.Store(1)
		security := secure(nil)
		security.Load = func() (*tls.Certificate, *x509.CertPool, error) {
			loads.Add(1)
			return ca.Issue(serial(number.Load())), testca.Pool(ca), nil
		}
		listenTLS(t, net, "b", security)
		require.EqualValues(t, 1, loads.Load())
		number.Store(2)
		require.EqualValues(t, 1, serialOf(t, net, ca, "b"))
		pause(time.Second)
		synctest.Wait()
		require.EqualValues(t, 2, serialOf(t, net, ca, "b"))
		require.EqualValues(t, 2, loads.Load())
	})
}

// What cannot be used leaves what is in use alone, and is in the log once. When
// it is mended it is used.
func TestBrokenFilesChangeNothing(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, f files, ca *testca.Authority)
		text  string
	}{
		"a key of another certificate": {func(t *testing.T, f files, ca *testca.Authority) {
			spoil(t, f.Cert(), testca.PEM("CERTIFICATE", ca.Issue().Certificate...))
		}, "private key does not match public key"},
		"a certificate that has expired": {func(t *testing.T, f files, ca *testca.Authority) {
			f.Certify(ca.Issue(expiringIn(-time.Minute)))
		}, "expired at"},
		"half a list of CAs": {func(t *testing.T, f files, ca *testca.Authority) {
			all := testca.PEM("CERTIFICATE", ca.Certificate.Raw, testca.New().Certificate.Raw)
			spoil(t, f.CA(), all[:len(all)-100])
		}, "damaged or cut off after 1 certificates"},
		"no CA": {func(t *testing.T, f files, ca *testca.Authority) {
			spoil(t, f.CA(), nil)
		}, "holds no certificate"},
		"no file": {func(t *testing.T, f files, ca *testca.Authority) {
			require.NoError(t, os.Remove(f.Cert()))
		}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				f := newFiles(t, ca.Issue(serial(1)), ca)
				security := f.secure()
				security.Logger = logTo(&log)
				b, layer := listenTLS(t, net, "b", security)
				serve(t, b, accept)
				c.spoil(t, f, ca)
				for range 10 {
					pause(time.Second)
					require.EqualValues(t, 1, serialOf(t, net, ca, "b"))
				}
				require.ErrorContains(t, layer.Reload(), c.text)
				require.EqualValues(t, 1, serialOf(t, net, ca, "b"))
				f.Certify(ca.Issue(serial(2)))
				f.Trust(ca)
				pause(time.Second)
				synctest.Wait()
				require.EqualValues(t, 2, serialOf(t, net, ca, "b"))
			})
			require.Equal(t, 1, strings.Count(log.String(), "cannot reload TLS certificates, going on with those in use: local=b"), log.String())
			require.Contains(t, log.String(), c.text)
		})
	}
}

// The cluster moves to another CA, and each node to a certificate of it, while
// requests are under way on connections old and new: none fails, and no
// connection is dropped.
func TestRotationOfTheCAFailsNoRequest(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		before, after := testca.New(), testca.New()
		hosts := []string{"a", "b", "c"}
		var nodes []*raftwire.NetworkTransport
		var disks []files
		for _, host := range hosts {
			f := newFiles(t, before.Issue(), before)
			disks = append(disks, f)
			node, _ := listenTLS(t, net, host, f.secure(), withPool(1))
			serve(t, node, accept)
			nodes = append(nodes, node)
			for _, other := range hosts {
				net.Link(host, other).SetLatency(10 * time.Millisecond)
			}
		}
		p := openPipeline(t, nodes[0], "b")
		load := startLoad(nodes, hosts)

		steps := []func(f files){
			func(f files) { f.Trust(before, after) },
			func(f files) { f.Certify(after.Issue()) },
			func(f files) { f.Trust(after) },
		}
		for _, step := range steps {
			for _, f := range disks {
				step(f)
				pause(1500 * time.Millisecond) // beyond ReloadInterval
			}
		}
		load.stop(t)
		send(t, p, 1)
		require.NoError(t, (<-p.Consumer()).Error())
		stranger, _ := listenTLS(t, net, "d", secure(before.Issue(), before, after))
		require.Error(t, appendOnce(stranger, "b"), "the old CA is still trusted")
	})
}

// load is requests from each node to each other, two at a time where one
// connection is kept: so some are reused, and some are made for each request.
type load struct {
	done    chan struct{}
	workers sync.WaitGroup
	mu      sync.Mutex // protects following
	count   int
	errs    []error
}

func startLoad(nodes []*raftwire.NetworkTransport, hosts []string) *load {
	l := &load{done: make(chan struct{})}
	for i, node := range nodes {
		for j, host := range hosts {
			for range 2 {
				if i != j {
					l.workers.Go(func() { l.run(node, raftwire.ServerAddress(host)) })
				}
			}
		}
	}
	return l
}

func (l *load) run(node *raftwire.NetworkTransport, target raftwire.ServerAddress) {
	for {
		select {
		case <-l.done:
			return
		default:
			l.note(appendOnce(node, target))
		}
	}
}

func (l *load) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

func (l *load) stop(t *testing.T) {
	t.Helper()
	close(l.done)
	l.workers.Wait()
	require.Empty(t, l.errs)
	require.Greater(t, l.count, 1000)
}

// CloseStreams after a revocation cuts the revoked node off, whatever it had
// open, and it does not come back. The others do, at once.
func TestARevokedNodeIsCutOff(t *testing.T) {
	for name, revoke := range map[string]func(w *revocation){
		"its CA was dropped": func(w *revocation) { w.trusted = []*testca.Authority{w.ours} },
		"Authorize says no":  func(w *revocation) { w.denied = true },
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				w := newRevocation(t)
				b, layer := listenTLS(t, net, "b", w.secure(t))
				serve(t, b, accept)
				bad, _ := listenTLS(t, net, "bad", secure(w.theirs.Issue(serial(666)), w.ours, w.theirs))
				good, _ := listenTLS(t, net, "good", secure(w.ours.Issue(), w.ours, w.theirs))
				require.NoError(t, appendOnce(bad, "b"))
				p := openPipeline(t, bad, "b")
				require.NoError(t, appendOnce(bad, "b"))
				require.NoError(t, appendOnce(good, "b"))

				revoke(w)
				require.NoError(t, layer.Reload())
				require.NoError(t, appendOnce(bad, "b"), "connections that stand are left alone")
				require.LessOrEqual(t, elapsed(b.CloseStreams), prompt)
				synctest.Wait()
				future, err := p.AppendEntries(appendRequest(1), new(raftwire.AppendEntriesResponse))
				if err == nil {
					err = future.Error()
				}
				require.Error(t, err)
				for kind, call := range calls {
					require.Error(t, call(bad, "b"), kind)
				}
				require.NoError(t, appendOnce(good, "b"))
				synctest.Wait() // a refusal is counted after the connection was closed
				require.NotZero(t, layer.Refusals().Untrusted)
			})
		})
	}
}

// revocation is what a node trusts, while that changes.
type revocation struct {
	ours, theirs *testca.Authority
	trusted      []*testca.Authority
	denied       bool // the node with the serial number 666
}

func newRevocation(t *testing.T) *revocation {
	w := &revocation{ours: testca.New(), theirs: testca.New()}
	w.trusted = []*testca.Authority{w.ours, w.theirs}
	return w
}

func (w *revocation) secure(t *testing.T) raftwire.TLSConfig {
	own := w.ours.Issue()
	return raftwire.TLSConfig{
		Load:           func() (*tls.Certificate, *x509.CertPool, error) { return own, testca.Pool(w.trusted...), nil },
		ReloadInterval: -1,
		ServerName:     role,
		Authorize: func(p *raftwire.TLSPeer) error {
			if w.denied && p.Certificate().SerialNumber.Int64() == 666 {
				return errors.New("revoked")
			}
			return nil
		},
		Logger: hclog.NewNullLogger(),
	}
}

// A handshake takes as long as the peer likes. One that began before a Reload,
// or has not been accepted yet, does not slip past it.
func TestAHandshakeDoesNotOutlastARevocation(t *testing.T) {
	for _, progress := range []string{"begun", "over"} {
		for name, revoke := range map[string]func(w *revocation){
			"its CA was dropped": func(w *revocation) { w.trusted = []*testca.Authority{w.ours} },
			"Authorize says no":  func(w *revocation) { w.denied = true },
		} {
			t.Run(progress+" when "+name, func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					w := newRevocation(t)
					layer := secureLayer(t, net, "b", w.secure(t))
					accepted := make(chan net_, 3)
					acceptOne := func() {
						conn, err := layer.Accept()
						if err == nil {
							accepted <- conn
						}
					}
					connect := func(from string, ca *testca.Authority, serialNumber int64) *tls.Conn {
						conn := dialRaw(t, net, from)
						return tls.Client(conn, &tls.Config{
							RootCAs: testca.Pool(w.ours), ServerName: role,
							Certificates: []tls.Certificate{*ca.Issue(serial(serialNumber))},
						})
					}
					first := connect("good", w.ours, 1)
					go acceptOne()
					require.NoError(t, first.Handshake())
					synctest.Wait()

					bad := connect("bad", w.theirs, 666)
					synctest.Wait() // it was accepted by now, and has its configuration
					if progress == "over" {
						require.NoError(t, bad.Handshake())
						synctest.Wait()
					}
					revoke(w)
					require.NoError(t, layer.Reload())
					_ = bad.Handshake()
					synctest.Wait()
					good := connect("good", w.ours, 2)
					require.NoError(t, good.Handshake())
					go acceptOne()
					synctest.Wait()

					_, err := bad.Read(make([]byte, 1))
					require.Error(t, err)
					require.NoError(t, bad.NetConn().Close())
					synctest.Wait()
					require.NoError(t, layer.Close())
					require.Len(t, accepted, 2)
					for _, want := range []int64{1, 2} {
						conn := (<-accepted).(*tls.Conn)
						require.Equal(t, want, conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64())
						require.NoError(t, conn.Close())
					}
					require.EqualValues(t, 1, layer.Refusals().Untrusted)
				})
			})
		}
	}
}

// Nobody resumes a session: that would let them in by what was verified before.
func TestSessionsAreNotResumed(t *testing.T) {
	onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
		config := &tls.Config{
			RootCAs: testca.Pool(w.ca), ServerName: role, Certificates: []tls.Certificate{*w.ca.Issue()},
			ClientSessionCache: tls.NewLRUClientSessionCache(10),
		}
		for range 3 {
			conn := tls.Client(dialRaw(t, w.net, "a"), config)
			say(t, conn, "\x03\x80")
			_, err := conn.Read(make([]byte, 100))
			require.NoError(t, err)
			require.False(t, conn.ConnectionState().DidResume)
			require.NoError(t, conn.Close())
		}
	})
}

// Wherever a bit is flipped on the way, in the handshake or after it, the
// request fails, and is not delivered in another form. The one exception is the
// version in the header of each side's first record, which TLS ignores
// (RFC 8446 §5.1): the request is what it was.
func TestAFlippedBitIsAlwaysDetected(t *testing.T) {
	const (
		stride = 11 // saves time, and has no factor in common with 8 bits
		vary   = 8  // by so many bytes do the lengths of signatures
	)
	for _, outgoing := range []bool{true, false} {
		t.Run(fmt.Sprint("outgoing ", outgoing), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				inner, err := net.Host("a").Listen()
				require.NoError(t, err)
				flipping := &flippingLayer{StreamLayer: inner, outgoing: outgoing, at: -1}
				layer, err := raftwire.NewTLSStreamLayer(flipping, secure(ca.Issue(), ca))
				require.NoError(t, err)
				a := transport(t, withStream(layer), withPool(0))
				b, _ := listenTLS(t, net, "b", secure(ca.Issue(), ca))
				serve(t, b, func(rpc raftwire.RPC) {
					assert.Equal(t, appendRequest(1), rpc.Command)
					accept(rpc)
				})
				ask := func() error {
					var resp raftwire.AppendEntriesResponse
					err := a.AppendEntries("b", "b", appendRequest(1), &resp)
					if err == nil {
						require.Equal(t, raftwire.AppendEntriesResponse{Term: 7, LastLog: 1, Success: true}, resp)
					}
					return err
				}
				require.NoError(t, ask())
				total := flipping.carried()
				for at := 0; at < total-vary; at++ {
					inFirstHeader := at < 5
					if !inFirstHeader && at%stride != 0 {
						continue
					}
					flipping.flipAt(at)
					if err := ask(); at != 1 && at != 2 {
						require.Error(t, err, "byte %d of %d", at, total)
					}
					pause(2 * time.Second) // what is left of the connection goes
				}
			})
		})
	}
}

// flippingLayer flips a bit in byte number at of what a connection that it has
// dialled carries in one direction.
type flippingLayer struct {
	raftwire.StreamLayer
	outgoing bool

	mu   sync.Mutex // protects following, and the connections' counts
	at   int
	last *flippingConn
}

func (l *flippingLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := l.StreamLayer.Dial(address, timeout)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = &flippingConn{Conn: conn, layer: l}
	return l.last, err
}

func (l *flippingLayer) flipAt(at int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = at
}

// carried returns how many bytes the last connection has carried.
func (l *flippingLayer) carried() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.passed
}

type flippingConn struct {
	net.Conn
	layer  *flippingLayer
	passed int
}

func (c *flippingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.layer.outgoing {
		c.flip(p[:n])
		c.count(n)
	}
	return n, err
}

func (c *flippingConn) Write(p []byte) (int, error) {
	if !c.layer.outgoing {
		return c.Conn.Write(p)
	}
	p = bytes.Clone(p)
	c.flip(p)
	n, err := c.Conn.Write(p)
	c.count(n) // without the goodbye, which comes when conn is closed
	return n, err
}

func (c *flippingConn) flip(p []byte) {
	c.layer.mu.Lock()
	defer c.layer.mu.Unlock()
	if i := c.layer.at - c.passed; 0 <= i && i < len(p) {
		p[i] ^= 1 << (c.layer.at % 8)
	}
}

func (c *flippingConn) count(n int) {
	c.layer.mu.Lock()
	defer c.layer.mu.Unlock()
	c.passed += n
}

// P4, P5: a TLS connection has a goodbye to say, for which a peer that does not
// read would have seconds. However many of them there are, the end is prompt.
func TestTLSPeersThatDoNotReadDoNotDelayTheEnd(t *testing.T) {
	const (
		buffer   = 1000
		overhead = 5 + 1 + 16 + 4 // of the record, RFC 8446 §5.2, and of the answer in it
		goodbye  = 5 + 2 + 1 + 16 // a record as well
	)
	for name, end := range map[string]func(*raftwire.NetworkTransport){
		"Close":        func(trans *raftwire.NetworkTransport) { require.NoError(t, trans.Close()) },
		"CloseStreams": (*raftwire.NetworkTransport).CloseStreams,
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				b, _ := listenTLS(t, net, "b", secure(ca.Issue(), ca))
				serve(t, b, func(rpc raftwire.RPC) {
					rpc.Respond(nil, errors.New(strings.Repeat("x", buffer-overhead-goodbye/2)))
				})
				net.SetBuffer(buffer)
				for range 100 {
					stuck := tls.Client(dialRaw(t, net, "a"), &tls.Config{
						RootCAs: testca.Pool(ca), ServerName: role, Certificates: []tls.Certificate{*ca.Issue()},
					})
					require.NoError(t, stuck.Handshake())
					say(t, stuck, "\x03\x80") // and does not read the answer
				}
				synctest.Wait()
				require.LessOrEqual(t, elapsed(func() { end(b) }), prompt)
			})
		})
	}
}

// layers over which a pooled connection has to be known for dead or alive: a
// system's socket is looked at, other connections are watched, and a layer of
// somebody else may resume sessions, so that bytes arrive which belong to no
// answer.
var tlsLayers = map[string]func(t *testing.T, addr string, ca *testca.Authority) raftwire.StreamLayer{
	"over sockets": func(t *testing.T, addr string, ca *testca.Authority) raftwire.StreamLayer {
		layer, err := raftwire.NewTLSStreamLayer(listenSocket(t, addr), secure(ca.Issue(), ca))
		require.NoError(t, err)
		return layer
	},
	"over something else": func(t *testing.T, addr string, ca *testca.Authority) raftwire.StreamLayer {
		layer, err := raftwire.NewTLSStreamLayer(unknownLayer{listenSocket(t, addr)}, secure(ca.Issue(), ca))
		require.NoError(t, err)
		return layer
	},
	"with tickets": func(t *testing.T, addr string, ca *testca.Authority) raftwire.StreamLayer {
		return ticketLayer{listenSocket(t, addr), &tls.Config{
			Certificates: []tls.Certificate{*ca.Issue()}, ServerName: role, RootCAs: testca.Pool(ca),
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: testca.Pool(ca),
			ClientSessionCache: tls.NewLRUClientSessionCache(10),
		}}
	},
}

// socketLayer is the least that a stream layer over TCP can be.
type socketLayer struct{ net.Listener }

func listenSocket(t *testing.T, addr string) socketLayer {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	require.NoError(t, err)
	return socketLayer{listener}
}

func (socketLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

// unknownLayer hides that its connections are sockets.
type unknownLayer struct{ socketLayer }

type unknownConn struct{ net.Conn }

func (l unknownLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := l.socketLayer.Dial(address, timeout)
	return unknownConn{conn}, err
}

type ticketLayer struct {
	socketLayer
	config *tls.Config
}

func (l ticketLayer) Accept() (net.Conn, error) {
	conn, err := l.socketLayer.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(conn, l.config), nil
}

func (l ticketLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := l.socketLayer.Dial(address, timeout)
	if err != nil {
		return nil, err
	}
	return tls.Client(conn, l.config), nil
}

// countedLayer counts dials.
type countedLayer struct {
	raftwire.StreamLayer
	dials atomic.Int32
}

func (l *countedLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	l.dials.Add(1)
	return l.StreamLayer.Dial(address, timeout)
}

// P7 over TLS: an idle connection is used again, and one whose peer was
// restarted costs no failed request.
func TestIdleTLSConnectionsAreReusedWhileTheyAreAlive(t *testing.T) {
	for name, newLayer := range tlsLayers {
		t.Run(name, func(t *testing.T) {
			ca := testca.New()
			counted := &countedLayer{StreamLayer: newLayer(t, "127.0.0.1:0", ca)}
			a := transport(t, withStream(counted), withTimeout(10*time.Second))
			b := transport(t, withStream(newLayer(t, "127.0.0.1:0", ca)))
			target := b.LocalAddr()
			for range 5 {
				fillPool(t, a, b, 1)
				pause(3 * time.Millisecond) // beyond the time that it is taken for alive
			}
			require.EqualValues(t, 1, counted.dials.Load())
			p := openPipeline(t, a, target)
			require.NoError(t, p.Close())
			require.EqualValues(t, 1, counted.dials.Load())
			fillPool(t, a, b, 3)

			require.NoError(t, b.Close())
			serve(t, transport(t, withStream(newLayer(t, string(target), ca))), accept)
			for range 5 {
				require.NoError(t, appendOnce(a, target))
			}
		})
	}
}

// P9 over TLS, which reads ahead: what comes with an answer, but in a record of
// its own, is in neither the socket nor the buffer.
func TestASurplusRecordIsNeverTakenForAnAnswer(t *testing.T) {
	ca := testca.New()
	counted := &countedLayer{StreamLayer: tlsLayers["over sockets"](t, "127.0.0.1:0", ca)}
	a := transport(t, withStream(counted))
	listener := listenSocket(t, "127.0.0.1:0")
	defer func() { require.NoError(t, listener.Close()) }()
	config := &tls.Config{Certificates: []tls.Certificate{*ca.Issue()}, ClientAuth: tls.RequireAnyClientCert}
	answered := make(chan struct{})
	go func() {
		for range 2 {
			answerInTwoRecords(t, listener, config)
			answered <- struct{}{}
		}
	}()
	for i := range int32(2) { // on a connection each
		require.NoError(t, appendOnce(a, raftwire.ServerAddress(listener.Addr().String())))
		require.Equal(t, i+1, counted.dials.Load())
		<-answered
	}
}

// answerInTwoRecords answers the first request on a connection twice, with one
// write of two records.
func answerInTwoRecords(t *testing.T, listener net.Listener, config *tls.Config) {
	raw, err := listener.Accept()
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = raw.Close() }()
	gathered := &gatheringConn{Conn: raw}
	conn := tls.Server(gathered, config)
	_, _ = conn.Read(make([]byte, 4096))
	gathered.held = new(bytes.Buffer)
	_, _ = io.WriteString(conn, "\xa0\xc0") // no error, no response
	_, _ = io.WriteString(conn, "\xa0\xc0")
	_, _ = raw.Write(gathered.held.Bytes())
	_, _ = conn.Read(make([]byte, 1)) // until the peer closes
}

// gatheringConn holds what is written.
type gatheringConn struct {
	net.Conn
	held *bytes.Buffer // nil: nothing is held
}

func (c *gatheringConn) Write(p []byte) (int, error) {
	if c.held == nil {
		return c.Conn.Write(p)
	}
	return c.held.Write(p)
}

// Bad input ends in an error that says what is wrong and what to do.
func TestBadTLSConfigurationSaysWhatToDo(t *testing.T) {
	ca := testca.New()
	good := newFiles(t, ca.Issue(), ca)
	with := func(change func(*raftwire.TLSConfig)) raftwire.TLSConfig {
		c := good.secure()
		change(&c)
		return c
	}
	issued := func(changes ...func(*x509.Certificate)) raftwire.TLSConfig {
		return newFiles(t, ca.Issue(changes...), ca).secure()
	}
	loading := func(certificate *tls.Certificate, cas *x509.CertPool, err error) raftwire.TLSConfig {
		return raftwire.TLSConfig{Load: func() (*tls.Certificate, *x509.CertPool, error) { return certificate, cas, err }}
	}
	for text, c := range map[string]raftwire.TLSConfig{
		"CAFile is empty: set it to a PEM file with the CAs of your peers":     with(func(c *raftwire.TLSConfig) { c.CAFile = "" }),
		"CertFile is empty: set it to a PEM file with this node's certificate": with(func(c *raftwire.TLSConfig) { c.CertFile = "" }),
		"KeyFile is empty: set it to the PEM file with the private key":        with(func(c *raftwire.TLSConfig) { c.KeyFile = "" }),
		"TLSConfig.CAFile: open missing.pem: ":                                 with(func(c *raftwire.TLSConfig) { c.CAFile = "missing.pem" }),
		"holds a PRIVATE KEY: only certificates of CAs belong there":           with(func(c *raftwire.TLSConfig) { c.CAFile = c.KeyFile }),
		"tls: failed to find any PEM data in key input":                        with(func(c *raftwire.TLSConfig) { c.KeyFile = os.DevNull }),
		"holds no certificate: it must be PEM":                                 with(func(c *raftwire.TLSConfig) { c.CAFile = os.DevNull }),
		"Load is set, and so are files: use one or the other":                  with(func(c *raftwire.TLSConfig) { c.Load = loading(nil, nil, nil).Load }),
		"MinVersion is TLS 1.1: use 0 for TLS 1.3, or tls.VersionTLS12":        with(func(c *raftwire.TLSConfig) { c.MinVersion = tls.VersionTLS11 }),
		"HandshakeTimeout is -1s: use 0 for the default":                       with(func(c *raftwire.TLSConfig) { c.HandshakeTimeout = -time.Second }),
		"MaxHandshakes is -1: use 0 for the default":                           with(func(c *raftwire.TLSConfig) { c.MaxHandshakes = -1 }),
		"expired at ":          issued(expiringIn(-time.Minute)),
		"is not valid before ": issued(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }),
		"lacks the extended key usage clientAuth: a node accepts and dials": issued(usedFor(x509.ExtKeyUsageServerAuth)),
		"lacks the extended key usage serverAuth: a node accepts and dials": issued(usedFor(x509.ExtKeyUsageClientAuth)),
		"TLSConfig.Load: no vault": loading(nil, nil, errors.New("no vault")),
		"what TLSConfig.Load returned: no certificate: peers verify each other":       loading(nil, testca.Pool(ca), nil),
		"what TLSConfig.Load returned: no CAs: without one no peer could be verified": loading(ca.Issue(), nil, nil),
		"what TLSConfig.Load returned: no CAs: ":                                      loading(ca.Issue(), testca.Pool(), nil),
		"what TLSConfig.Load returned: no private key for the certificate":            loading(&tls.Certificate{Certificate: ca.Issue().Certificate}, testca.Pool(ca), nil),
		"what TLSConfig.Load returned: the private key is of another certificate":     loading(&tls.Certificate{Certificate: ca.Issue().Certificate, PrivateKey: testca.NewKey()}, testca.Pool(ca), nil),
		"what TLSConfig.Load returned: x509: malformed":                               loading(&tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: testca.NewKey()}, testca.Pool(ca), nil),
	} {
		t.Run(text, func(t *testing.T) {
			_, err := raftwire.NewTLSTransport("127.0.0.1:0", nil, c, config())
			require.ErrorContains(t, err, "raftwire: ")
			require.ErrorContains(t, err, text)
		})
	}
	_, err := raftwire.NewTLSTransport("127.0.0.1:0", nil, good.secure(), config(withPool(-1)))
	require.ErrorContains(t, err, "MaxPool is -1")
	_, err = raftwire.NewTLSTransport("nonsense", nil, good.secure(), nil)
	require.ErrorContains(t, err, "cannot bind to")
	_, err = raftwire.NewTLSStreamLayer(nil, good.secure())
	require.ErrorContains(t, err, "the StreamLayer under TLS is nil: use NewTLSTransport for TCP")
}

// A node that its peers will refuse says so when it starts, and when a new
// certificate makes it one.
func TestANodeWithoutTheNameThatItAsksForWarns(t *testing.T) {
	ca := testca.New()
	inner, err := faultnet.New(1).Host("a").Listen()
	require.NoError(t, err)
	var log bytes.Buffer
	certificate := ca.Issue()
	config := secure(nil, ca)
	config.Load = func() (*tls.Certificate, *x509.CertPool, error) { return certificate, testca.Pool(ca), nil }
	config.ReloadInterval = -1 // certificate changes
	config.Logger = logTo(&log)
	layer, err := raftwire.NewTLSStreamLayer(inner, config)
	require.NoError(t, err)
	require.NotContains(t, log.String(), "[WARN]")
	warning := fmt.Sprintf("[WARN]  this node's own certificate does not have the name %q: peers that ask for it will refuse this node: local=a certificate=", role)
	certificate = ca.Issue(named("another"))
	require.NoError(t, layer.Reload())
	require.Equal(t, 1, strings.Count(log.String(), warning), log.String())
	require.NoError(t, layer.Close())

	config.ServerName = "10.1.2.3"
	log.Reset()
	_, err = raftwire.NewTLSStreamLayer(inner, config)
	require.NoError(t, err)
	require.Contains(t, log.String(), `does not have the name "10.1.2.3"`)

	config.ServerName = ""
	log.Reset()
	_, err = raftwire.NewTLSStreamLayer(inner, config)
	require.NoError(t, err)
	require.Empty(t, log.String())
}

// A certificate and its key may be in one file, and need not name key usages.
func TestUnusualFilesThatAreFine(t *testing.T) {
	ca := testca.New()
	f := newFiles(t, ca.Issue(usedFor()), ca)
	key, err := os.ReadFile(f.Key())
	require.NoError(t, err)
	certificate, err := os.ReadFile(f.Cert())
	require.NoError(t, err)
	spoil(t, f.Cert(), append(key, certificate...))
	c := f.secure()
	c.KeyFile = c.CertFile
	trans, err := raftwire.NewTLSTransport("127.0.0.1:0", nil, c, config())
	require.NoError(t, err)
	require.NoError(t, trans.Close())
}

// Two nodes that have to speak TLS 1.2, and a protocol of their own.
func TestOldVersionsAndProtocolsByConfiguration(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		c := secure(ca.Issue(), ca)
		c.MinVersion, c.NextProtos = tls.VersionTLS12, []string{"raft"}
		listenTLS(t, net, "b", c)
		_, a := listenTLS(t, net, "a", c)
		old := tls.Client(dialRaw(t, net, "c"), &tls.Config{
			RootCAs: testca.Pool(ca), ServerName: role, Certificates: []tls.Certificate{*ca.Issue()},
			MaxVersion: tls.VersionTLS12,
		})
		require.NoError(t, old.Handshake())
		conn, err := a.Dial("b", time.Second)
		require.NoError(t, err)
		state := conn.(*tls.Conn).ConnectionState()
		require.EqualValues(t, tls.VersionTLS13, state.Version)
		require.Equal(t, "raft", state.NegotiatedProtocol)
		require.NoError(t, conn.Close())
	})
}

// CloseStreams means connections as well that have been accepted, and are not
// served yet.
func TestCloseStreamsClosesWhatWasJustAccepted(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		w := newRevocation(t)
		layer := secureLayer(t, net, "b", w.secure(t))
		slow := func(raftwire.ConnEvent) { pause(time.Minute) }
		b := transport(t, withStream(layer), withHooks(raftwire.Hooks{ConnOpened: slow}))
		serve(t, b, accept)
		bad, _ := listenTLS(t, net, "bad", secure(w.theirs.Issue(serial(666)), w.ours), withTimeout(time.Hour))
		result := make(chan error, 1)
		go func() { result <- appendOnce(bad, "b") }()
		synctest.Wait()
		w.denied = true
		require.NoError(t, layer.Reload())
		b.CloseStreams()
		require.LessOrEqual(t, elapsed(func() { require.Error(t, <-result) }), prompt)
		pause(time.Minute) // until the hook returns
	})
}

// P16: over TLS, too, a snapshot may be slow, although a write that its deadline
// has interrupted cannot go on.
func TestASlowSnapshotOverTLS(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		a, _ := listenTLS(t, net, "a", secure(ca.Issue(), ca))
		b, _ := listenTLS(t, net, "b", secure(ca.Issue(), ca))
		serve(t, b, accept)
		require.NoError(t, appendOnce(a, "b"))
		net.Link("a", "b").SetBandwidth(30_000)
		require.NoError(t, installSnapshot(a, "b", string(make([]byte, 1<<20))))
	})
}

// Also one that stalls for a while, as long as the peer answers other requests; and
// one that is compressed under way.
func TestInstallSnapshot_OverTLS(t *testing.T) {
	for name, c := range map[string]struct {
		size, length int
		stall        time.Duration
	}{
		"a stall": {1 << 20, 1 << 20, testTimeout * 7 / 2},
		"shorter": {1 << 20, 1000, 0},
		"longer":  {1 << 20, 2 << 20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				a, _ := listenTLS(t, net, "a", secure(ca.Issue(), ca))
				b, _ := listenTLS(t, net, "b", secure(ca.Issue(), ca))
				b.SetHeartbeatHandler(accept)
				defer heartbeats(t, a, testTimeout/2)()
				serve(t, b, func(rpc raftwire.RPC) {
					pause(c.stall)
					n, err := io.Copy(io.Discard, rpc.Reader)
					assert.EqualValues(t, min(c.size, c.length), n)
					assert.Equal(t, c.length < c.size, errors.Is(err, io.ErrUnexpectedEOF), err)
					rpc.Respond(&raftwire.InstallSnapshotResponse{Success: true}, nil)
				})
				took := elapsed(func() {
					resp, err := install(a, int64(c.size), io.LimitReader(zeros{}, int64(c.length)))
					require.NoError(t, err)
					require.True(t, resp.Success)
				})
				require.Equal(t, c.stall, took)
			})
		})
	}
}

func TestAllowNamesKeepsItsNames(t *testing.T) {
	names := []string{role}
	allow := raftwire.AllowNames(names...)
	names[0] = "another"
	require.NoError(t, allow(&raftwire.TLSPeer{Chains: [][]*x509.Certificate{{{DNSNames: []string{role}}}}}))
}
