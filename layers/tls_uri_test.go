package layers_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

const raftURI = "spiffe://cluster/raft"

// onlyURI makes a certificate that has no name of a host.
func onlyURI(name string) func(*x509.Certificate) {
	uri, err := url.Parse(name)
	if err != nil {
		panic(err)
	}
	return func(c *x509.Certificate) { c.DNSNames, c.IPAddresses, c.URIs = nil, nil, []*url.URL{uri} }
}

// uriRules are the ways to know peers by URIs. Each lets in raftURI alone.
var uriRules = map[string]func(*layers.TLSConfig){
	"ServerName": func(c *layers.TLSConfig) { c.ServerName = raftURI },
	"Authorize": func(c *layers.TLSConfig) {
		c.ServerName, c.AuthorizeNames, c.Authorize = "", true, layers.AllowNames(raftURI)
	},
}

// Peers whose certificates have URIs alone let each other in, whoever dials, at a name and
// at an IP address.
func TestURINames_LetPeersInOnBothSides(t *testing.T) {
	for rule, set := range uriRules {
		for _, address := range []raftwire.ServerAddress{"b", "10.0.0.7:8300"} {
			t.Run(rule+" "+string(address), func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					ca := testca.New()
					node := func(host string) *raftwire.NetworkTransport {
						security := secure(ca.Issue(onlyURI(raftURI)), ca)
						set(&security)
						trans, _ := listenTLS(t, net, host, security)
						serve(t, trans, accept)
						return trans
					}
					a, b := node("a"), node(string(address))
					require.NoError(t, appendOnce(a, address))
					require.NoError(t, appendOnce(b, "a"))
				})
			})
		}
	}
}

// A URI needs no "//", and the addresses of IPv6 are none.
func TestURINames_MayBeURNs(t *testing.T) {
	for rule, c := range map[string]struct {
		certificate func(*x509.Certificate)
		set         func(*layers.TLSConfig)
	}{
		"ServerName": {onlyURI("urn:raft:server"), func(c *layers.TLSConfig) { c.ServerName = "urn:raft:server" }},
		"Authorize": {onlyURI("urn:raft:server"), func(c *layers.TLSConfig) {
			c.ServerName, c.AuthorizeNames, c.Authorize = "", true, layers.AllowNames("urn:raft:server")
		}},
		"IPv6":             {onlyIP("fd00::7"), func(c *layers.TLSConfig) { c.ServerName = "fd00::7" }},
		"IPv6 in brackets": {onlyIP("fd00::7"), func(c *layers.TLSConfig) { c.ServerName = "[fd00::7]" }},
		"host of address":  {onlyIP("fd00::7"), func(c *layers.TLSConfig) { c.ServerName = "" }},
	} {
		t.Run(rule, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				node := func(host string) *raftwire.NetworkTransport {
					security := secure(ca.Issue(c.certificate), ca)
					c.set(&security)
					trans, _ := listenTLS(t, net, host, security)
					serve(t, trans, accept)
					return trans
				}
				a, _ := node("a"), node("[fd00::7]:8300")
				require.NoError(t, appendOnce(a, "[fd00::7]:8300"))
			})
		})
	}
}

func onlyIP(address string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses, c.URIs = nil, []net.IP{net.ParseIP(address)}, nil
	}
}

// A node that knows peers by URIs refuses all others, on either side: the host of the address
// counts for nothing, and the CAs and dates for as much as ever.
func TestURINames_LetNobodyElseIn(t *testing.T) {
	for rule, set := range uriRules {
		for name, c := range map[string]struct {
			changes func(*x509.Certificate)
			foreign bool
			dialled string // the error of who dials the wrong peer
			logged  string // by who is dialled
		}{
			"another URI":         {onlyURI("spiffe://cluster/web"), false, "must have the name " + raftURI, "must have the name " + raftURI},
			"the host only":       {named("wrong", role), false, "must have the name " + raftURI, "must have the name " + raftURI},
			"a host like the URI": {named("cluster"), false, "must have the name " + raftURI, "must have the name " + raftURI},
			"another CA":          {onlyURI(raftURI), true, `(the certificate is "spiffe://cluster/raft")`, "unknown authority"},
			"a wrong usage": {func(c *x509.Certificate) {
				onlyURI(raftURI)(c)
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
			}, false, "incompatible key usage", "incompatible key usage"},
			"an expired one": {func(c *x509.Certificate) {
				onlyURI(raftURI)(c)
				c.NotAfter = c.NotBefore.Add(time.Minute)
			}, false, "expired", "expired"},
		} {
			t.Run(rule+" "+name, func(t *testing.T) {
				var log bytes.Buffer
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					ca, other := testca.New(), testca.New()
					issuer := ca
					if c.foreign {
						issuer = other
					}
					security := secure(ca.Issue(onlyURI(raftURI)), ca)
					security.Logger = logTo(&log)
					set(&security)
					good, _ := listenTLS(t, net, "good", security)
					serve(t, good, accept)

					wrong := &tls.Config{
						Certificates: []tls.Certificate{*issuer.Issue(c.changes)},
						ClientAuth:   tls.RequireAnyClientCert, InsecureSkipVerify: true,
					}
					dialInsecurely(t, net, "good", wrong)
					listenInsecurely(t, net, "wrong", wrong)
					require.ErrorContains(t, appendOnce(good, "wrong"), c.dialled)
					synctest.Wait()
				})
				require.Contains(t, log.String(), "connection refused")
				require.Contains(t, log.String(), c.logged)
			})
		}
	}
}

// dialInsecurely connects as one who trusts anybody, and waits to be refused.
func dialInsecurely(t *testing.T, net *faultnet.Network, address string, config *tls.Config) {
	t.Helper()
	raw, err := net.Host("intruder").Dial(t.Context(), address)
	require.NoError(t, err)
	conn := tls.Client(raw, config)
	require.NoError(t, conn.Handshake(), "the client is done before the server has its certificate")
	_, err = conn.Read(make([]byte, 1))
	require.ErrorContains(t, err, "remote error: tls: ")
	require.NoError(t, raw.Close())
}

// listenInsecurely accepts one connection as one who trusts anybody.
func listenInsecurely(t *testing.T, net *faultnet.Network, host string, config *tls.Config) {
	t.Helper()
	listener, err := net.Host(host).Listen()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		_, _ = tls.Server(raw, config).Read(make([]byte, 1))
	}()
}

// Whoever relies on the host of the address still does, whatever Authorize says.
func TestHostNames_AreVerifiedBesideAuthorize(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		peer := secure(ca.Issue(onlyURI(raftURI)), ca)
		peer.ServerName = ""
		b, _ := listenTLS(t, net, "b", peer)
		serve(t, b, accept)
		security := secure(ca.Issue(), ca)
		security.ServerName, security.Authorize = "", layers.AllowNames(raftURI)
		a, _ := listenTLS(t, net, "a", security)
		err := appendOnce(a, "b")
		require.ErrorContains(t, err, "certificate is not valid for any names, but wanted to match b")
		require.ErrorContains(t, err, `(the certificate is "spiffe://cluster/raft": if peers are known by URIs, set TLSConfig.ServerName or AuthorizeNames)`)
	})
}

// The name of the peer at an address may be a URI, too.
func TestServerNameFor_MayReturnAURI(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		for host, name := range map[string]string{"b": raftURI + "/b", "c": raftURI + "/b"} {
			security := secure(ca.Issue(onlyURI(name)), ca)
			security.ServerName = ""
			node, _ := listenTLS(t, net, host, security)
			serve(t, node, accept)
		}
		security := secure(ca.Issue(), ca)
		security.ServerName = ""
		security.ServerNameFor = func(a raftwire.ServerAddress) string { return raftURI + "/" + string(a) }
		a, _ := listenTLS(t, net, "a", security)
		require.NoError(t, appendOnce(a, "b"))
		require.ErrorContains(t, appendOnce(a, "c"), "must have the name "+raftURI+"/c")
	})
}

// A node without the URI that it asks for says so.
func TestURINames_AreExpectedOfTheNodeItself(t *testing.T) {
	for name, warns := range map[string]bool{raftURI: false, raftURI + "/2": true} {
		var log bytes.Buffer
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			ca := testca.New()
			security := secure(ca.Issue(onlyURI(raftURI)), ca)
			security.ServerName, security.Logger = name, logTo(&log)
			listenTLS(t, net, "a", security)
		})
		require.Equal(t, warns, bytes.Contains(log.Bytes(), []byte("does not have the name")), log.String())
	}
}
