package layers_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// unixSocket returns a path that is short enough for one.
func unixSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "raftwire")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "socket")
}

// The dialling side verifies as well, and its error says what is wrong.
func TestDiallingVerifiesThePeer(t *testing.T) {
	for name, c := range map[string]struct {
		security func(t *testing.T, ca *testca.Authority) layers.TLSConfig // of the peer
		text     string
	}{
		"of another CA": {
			func(t *testing.T, ca *testca.Authority) layers.TLSConfig { return secure(testca.New().Issue(), ca) },
			"AppendEntries to c: dial: TLS handshake: tls: failed to verify certificate: x509: certificate signed by unknown authority",
		},
		"with another role": {
			func(t *testing.T, ca *testca.Authority) layers.TLSConfig {
				return secure(ca.Issue(named("client.dc1.consul")), ca)
			},
			"certificate is valid for client.dc1.consul, not server.dc1.consul",
		},
		"with a certificate that has expired": {
			func(t *testing.T, ca *testca.Authority) layers.TLSConfig {
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
	byHost := func(c *layers.TLSConfig) { c.ServerName = "" }
	byFunction := func(c *layers.TLSConfig) {
		c.ServerNameFor = func(a raftwire.ServerAddress) string {
			return map[raftwire.ServerAddress]string{address: "node-7"}[a]
		}
	}
	for name, c := range map[string]struct {
		certificate func(*x509.Certificate) // of the peer
		dialling    func(*layers.TLSConfig)
		text        string
	}{
		"the role at an IP":                   {named(role), func(*layers.TLSConfig) {}, ""},
		"another role at an IP":               {named("client.dc1.consul"), func(*layers.TLSConfig) {}, "not " + role},
		"the IP itself":                       {ip, byHost, ""},
		"the IP, which is not in it":          {named(role), byHost, "doesn't contain any IP SANs"},
		"the name of the node at an IP":       {named("node-7"), byFunction, ""},
		"the name of another node at an IP":   {named("node-8"), byFunction, "not node-7"},
		"a role that only a wildcard matches": {named("*.dc1.consul"), func(*layers.TLSConfig) {}, ""},
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
		layer, err := layers.NewTLS(newLayer(t, raftwire.TCPConfig{Bind: "unix:" + unixSocket(t)}), secure(ca.Issue(), ca))
		require.NoError(t, err)
		return transport(t, withStream(layer), withTimeout(10*time.Second))
	}
	a, b := over(), over()
	serve(t, b, accept)
	for kind, call := range calls {
		require.NoError(t, call(a, b.LocalAddr()), kind)
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
