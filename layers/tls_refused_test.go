package layers_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// A node that is not to be let in is refused each time, is told why, and the
// log says so, once for many.
func TestAnUnwantedNodeIsRefusedVisibly(t *testing.T) {
	for name, c := range map[string]struct {
		security  func(t *testing.T, ca *testca.Authority) layers.TLSConfig
		log, told string
	}{
		"of another CA": {
			func(t *testing.T, ca *testca.Authority) layers.TLSConfig { return secure(testca.New().Issue(), ca) },
			`the certificate \"server.dc1.consul\" does not hold: x509: certificate signed by unknown authority`,
			"tls: unknown certificate authority",
		},
		"with another role": {
			func(t *testing.T, ca *testca.Authority) layers.TLSConfig {
				return secure(ca.Issue(named("client.dc1.consul")), ca)
			},
			`the peer with the certificate \"client.dc1.consul\" is not authorized: its certificate must have the name server.dc1.consul`,
			"tls: bad certificate",
		},
		"with a certificate that has expired": {
			func(t *testing.T, ca *testca.Authority) layers.TLSConfig {
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
