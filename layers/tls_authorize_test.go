package layers_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// Authorize has the last word on either side, and gets what it needs for it.
func TestAuthorize(t *testing.T) {
	spiffe, err := url.Parse("spiffe://cluster/raft")
	require.NoError(t, err)
	identified := func(c *x509.Certificate) { c.URIs = []*url.URL{spiffe} }
	for name, c := range map[string]struct {
		authorize   func(*layers.TLSPeer) error
		certificate func(*x509.Certificate)
		text        string
	}{
		"a name":              {layers.AllowNames("x", role), named(role), ""},
		"another name":        {layers.AllowNames("x", "y"), named(role), "its certificate must have the name x or y"},
		"a role":              {layers.AllowRole("server", "dc2.consul", "dc1.consul"), named(role), ""},
		"a role elsewhere":    {layers.AllowRole("server", "dc2.consul"), named(role), "must have the name server.dc2.consul"},
		"a longer name":       {layers.AllowNames("dc1.consul"), named(role), "must have the name dc1.consul"},
		"a URI":               {layers.AllowNames("spiffe://cluster/raft"), identified, ""},
		"another URI":         {layers.AllowNames("spiffe://cluster/raft/2"), identified, "must have the name spiffe://cluster/raft/2"},
		"nobody":              {layers.AllowNames(), named(role), "is not authorized"},
		"an error of its own": {func(*layers.TLSPeer) error { return errors.New("revoked") }, named(role), "is not authorized: revoked"},
	} {
		for _, side := range []string{"inbound", "dialled"} {
			t.Run(name+" "+side, func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					ca := testca.New()
					var seen []string
					strict := secure(ca.Issue(), ca)
					strict.ServerName = ""
					strict.ServerNameFor = func(raftwire.ServerAddress) string { return role }
					strict.Authorize = func(p *layers.TLSPeer) error {
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

// Calls in flight do not wait for an Authorize that hangs.
func TestCloseDoesNotWaitForAuthorize(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		hang := make(chan struct{})
		security := secure(ca.Issue(), ca)
		security.Authorize = func(p *layers.TLSPeer) error {
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

func TestAllowNamesKeepsItsNames(t *testing.T) {
	names := []string{role}
	allow := layers.AllowNames(names...)
	names[0] = "another"
	require.NoError(t, allow(&layers.TLSPeer{Chains: [][]*x509.Certificate{{{DNSNames: []string{role}}}}}))
}

// never leaves requests unanswered.
func never(raftwire.RPC) {}

// A function of TLSConfig or MuxConfig.TLS that panics is the panic of whoever dials.
// If that recovers, nothing is left open.
func TestAuthorize_ThatPanicsLeavesNoConnectionOpen(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		serve(t, group(t, share(t, net, "b", withTLS(secure(ca.Issue(), ca))), layers.ALPN("raft")), accept)
		security := secure(ca.Issue(), ca)
		security.NextProtos = []string{"raft"}
		security.Authorize = func(*layers.TLSPeer) error { panic("boom") }
		secured := secureLayer(t, net, "a", security)
		defer func() { require.NoError(t, secured.Close()) }()
		config := secure(ca.Issue(), ca)
		config.Authorize = func(*layers.TLSPeer) error { panic("boom") }
		for _, layer := range []raftwire.StreamLayer{secured, layerOf(t, share(t, net, "c", withTLS(config)), layers.ALPN("raft"))} {
			require.PanicsWithValue(t, "boom", func() { _, _ = layer.Dial("b", testTimeout) })
			synctest.Wait()
			require.Zero(t, net.OpenConns())
		}
	})
}

// Authorize holds up the connection that it decides about, and no other, on either
// side.
func TestAuthorize_ThatBlocksHoldsUpNobodyElse(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		release := make(chan struct{})
		security := secure(ca.Issue(), ca)
		security.MaxHandshakes = 3
		security.Authorize = func(p *layers.TLSPeer) error {
			if strings.HasPrefix(string(p.Address), "stuck") {
				<-release
			}
			return nil
		}
		layer := secureLayer(t, net, "b", security)
		b := raftwire.NewNetworkTransportWithConfig(config(withStream(layer)))
		serve(t, b, accept)
		for range 5 {
			client := tls.Client(dialRaw(t, net, "stuck"), mutual(ca, role))
			require.NoError(t, client.Handshake())
		}
		stuck, _ := listenTLS(t, net, "stuck", secure(ca.Issue(), ca))
		a, _ := listenTLS(t, net, "a", secure(ca.Issue(), ca))
		for _, trans := range []*raftwire.NetworkTransport{stuck, a} {
			serve(t, trans, accept)
		}
		require.Zero(t, elapsed(func() { require.NoError(t, appendOnce(a, "b")) }))
		require.Equal(t, testTimeout, elapsed(func() { requireTimeout(t, appendOnce(b, "stuck")) }))
		require.Zero(t, elapsed(func() { require.NoError(t, appendOnce(b, "a")) }))
		require.Zero(t, elapsed(func() { require.NoError(t, appendOnce(a, "b")) }))
		require.LessOrEqual(t, elapsed(func() { _ = b.Close() }), time.Second)
		close(release)
		synctest.Wait()
		require.NoError(t, b.Close())
	})
}
