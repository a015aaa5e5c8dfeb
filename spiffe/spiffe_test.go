package spiffe_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/raftwire/raftwire/spiffe"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"github.com/stretchr/testify/require"
)

// Two nodes verify each other, whoever dials, at a name and at an IP address. Their
// SVIDs have neither.
func TestTLSConfig_LetsPeersInByTheirIDs(t *testing.T) {
	other := spiffeid.RequireFromPath(ours, "/raft/b")
	for name, c := range map[string]struct {
		issue     func(*testca.Authority, string) *tls.Certificate
		address   raftwire.ServerAddress
		id        spiffeid.ID // of the node at address
		authorize tlsconfig.Authorizer
	}{
		"one ID":              {issueNode, "b", raftID, tlsconfig.AuthorizeID(raftID)},
		"at an IP address":    {issueNode, "10.0.0.7:8300", raftID, tlsconfig.AuthorizeID(raftID)},
		"an ID for each node": {issueNode, "b", other, tlsconfig.AuthorizeOneOf(raftID, other)},
		"the trust domain":    {issueNode, "b", other, tlsconfig.AuthorizeMemberOf(ours)},
		"an intermediate CA":  {issueBelow, "b", raftID, tlsconfig.AuthorizeID(raftID)},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				a, _ := listen(t, net, "a", secure(newSource(c.issue(ca, raftID.String()), ca), c.authorize, nil))
				b, _ := listen(t, net, string(c.address), secure(newSource(c.issue(ca, c.id.String()), ca), c.authorize, nil))
				serve(t, a)
				serve(t, b)
				require.NoError(t, appendOnce(a, c.address))
				require.NoError(t, appendOnce(b, "a"))
				require.NoError(t, installSnapshot(a, c.address))
			})
		})
	}
}

func issueNode(ca *testca.Authority, id string) *tls.Certificate { return issue(ca, id) }

// A node refuses everybody else, whoever dials, and says who it was. The node is
// federated with theirs.example, whose CA is another or the same.
func TestTLSConfig_RefusesEverybodyElse(t *testing.T) {
	const theirID = "spiffe://theirs.example/raft"
	for name, c := range map[string]struct {
		authorize   tlsconfig.Authorizer
		certificate func(ca, foreign *testca.Authority) *tls.Certificate
		sameCA      bool   // of the other trust domain
		text        string // in the error of who dials, and in the log of who is dialled
		id          string // likewise
	}{
		"another ID": {tlsconfig.AuthorizeID(raftID), func(ca, _ *testca.Authority) *tls.Certificate {
			return issue(ca, "spiffe://ours.example/web")
		}, false, "unexpected ID", "spiffe://ours.example/web"},
		"a federated trust domain": {tlsconfig.AuthorizeAny(), func(_, foreign *testca.Authority) *tls.Certificate {
			return issue(foreign, theirID)
		}, false, "unknown authority", theirID},
		"an ID of ours from a federated CA": {tlsconfig.AuthorizeAny(), func(_, foreign *testca.Authority) *tls.Certificate {
			return issue(foreign, raftID.String())
		}, false, "unknown authority", raftID.String()},
		"an ID of theirs from our CA": {tlsconfig.AuthorizeAny(), func(ca, _ *testca.Authority) *tls.Certificate {
			return issue(ca, theirID)
		}, false, `it has no X509-SVID of the trust domain ours.example`, theirID},
		"a federated trust domain with the same CA": {tlsconfig.AuthorizeAny(), func(_, foreign *testca.Authority) *tls.Certificate {
			return issue(foreign, theirID)
		}, true, `it has no X509-SVID of the trust domain ours.example`, theirID},
		"an expired SVID": {tlsconfig.AuthorizeAny(), func(ca, _ *testca.Authority) *tls.Certificate {
			return issue(ca, raftID.String(), expired)
		}, false, "expired", raftID.String()},
		"a certificate without an ID": {tlsconfig.AuthorizeAny(), func(ca, _ *testca.Authority) *tls.Certificate {
			return ca.Issue()
		}, false, "no URI SAN", testca.Name},
		"a certificate with two IDs": {tlsconfig.AuthorizeAny(), func(ca, _ *testca.Authority) *tls.Certificate {
			return ca.Issue(onlyURIs(raftID.String(), raftID.String()+"/2"))
		}, false, "more than one URI SAN", raftID.String()},
		"another URI": {tlsconfig.AuthorizeAny(), func(ca, _ *testca.Authority) *tls.Certificate {
			return issue(ca, "https://ours.example/raft")
		}, false, "scheme", "https://ours.example/raft"},
		"the certificate of a CA": {tlsconfig.AuthorizeAny(), func(ca, _ *testca.Authority) *tls.Certificate {
			return issue(ca, raftID.String(), asCA)
		}, false, "CA flag", raftID.String()},
		"whom an authorizer of its own refuses": {tlsconfig.AdaptMatcher(func(spiffeid.ID) error { return errors.New("revoked") }),
			func(ca, _ *testca.Authority) *tls.Certificate { return issue(ca, raftID.String()) }, false, "revoked", raftID.String()},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca, foreign := testca.New(), testca.New()
				if c.sameCA {
					foreign = ca
				}
				s := newSource(issue(ca, raftID.String()), ca)
				s.trust(theirs, foreign)
				good, _ := listen(t, net, "good", secure(s, c.authorize, &log))
				serve(t, good)
				wrong := c.certificate(ca, foreign)
				dialAs(t, net, wrong, "good")
				listenAs(t, net, wrong, "wrong")
				err := appendOnce(good, "wrong")
				require.ErrorContains(t, err, c.text)
				require.ErrorContains(t, err, c.id)
				synctest.Wait()
			})
			require.Equal(t, 1, strings.Count(log.String(), "connection refused"), log.String())
			require.Contains(t, log.String(), c.text)
			require.Contains(t, log.String(), c.id)
		})
	}
}

// What would refuse all peers, or be refused by them, is an error of the constructor.
func TestTLSConfig_RefusesUnusableMaterial(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		inner, err := net.Host("a").Listen()
		require.NoError(t, err)
		defer func() { require.NoError(t, inner.Close()) }()
		ca := testca.New()
		good := newSource(issue(ca, raftID.String()), ca)
		changed := func(change func(*source)) *source {
			s := newSource(issue(ca, raftID.String()), ca)
			change(s)
			return s
		}
		empty := changed(func(s *source) { s.trust(ours) })
		federated := changed(func(s *source) {
			s.bundles = x509bundle.NewSet()
			s.trust(theirs, ca)
		})
		failing := changed(func(s *source) { s.fail(errors.New("the agent is gone")) })
		foreign := changed(func(s *source) { s.svid.PrivateKey = testca.NewKey() })
		bare := changed(func(s *source) { s.svid.Certificates = nil })
		none := changed(func(s *source) { s.svid = nil })
		old := newSource(issue(ca, raftID.String(), expired), ca)
		for name, c := range map[string]struct {
			svids     x509svid.Source
			bundles   x509bundle.Source
			authorize tlsconfig.Authorizer
			text      string
		}{
			"no source of SVIDs":     {nil, good, tlsconfig.AuthorizeAny(), "the source of X509-SVIDs given to spiffe.TLSConfig is nil"},
			"a nil source of SVIDs":  {(*workloadapi.X509Source)(nil), good, tlsconfig.AuthorizeAny(), "the source of X509-SVIDs given to spiffe.TLSConfig is nil"},
			"no source of bundles":   {good, nil, tlsconfig.AuthorizeAny(), "the source of bundles given to spiffe.TLSConfig is nil"},
			"no authorizer":          {good, good, nil, "the authorizer given to spiffe.TLSConfig is nil"},
			"no SVID":                {failing, good, tlsconfig.AuthorizeAny(), "no X509-SVID: the agent is gone"},
			"a nil SVID":             {none, good, tlsconfig.AuthorizeAny(), "no X509-SVID: it is nil"},
			"an SVID that is empty":  {bare, good, tlsconfig.AuthorizeAny(), "no certificate"},
			"an expired SVID":        {old, good, tlsconfig.AuthorizeAny(), "expired at"},
			"an SVID of another key": {foreign, good, tlsconfig.AuthorizeAny(), "the private key is of another certificate"},
			"no bundle":              {good, failing, tlsconfig.AuthorizeAny(), `no bundle of the trust domain ours.example: the agent is gone`},
			"a bundle of others":     {good, federated, tlsconfig.AuthorizeAny(), `no bundle of the trust domain ours.example: x509bundle: `},
			"a nil bundle":           {good, nilBundle{}, tlsconfig.AuthorizeAny(), `no bundle of the trust domain ours.example: it has no X.509 authorities`},
			"an empty bundle":        {good, empty, tlsconfig.AuthorizeAny(), `no bundle of the trust domain ours.example: it has no X.509 authorities`},
		} {
			_, err := layers.NewTLS(inner, spiffe.TLSConfig(c.svids, c.bundles, c.authorize))
			require.ErrorContains(t, err, c.text, name)
		}
	})
}

type nilBundle struct{}

func (nilBundle) GetX509BundleForTrustDomain(spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return nil, nil
}

// A new SVID is shown a second later without a call, and at once after Reload.
func TestTLSConfig_FollowsItsSource(t *testing.T) {
	for name, follow := range map[string]func(t *testing.T, layer *layers.TLS){
		"by itself": func(t *testing.T, _ *layers.TLS) { pause(time.Second); synctest.Wait() },
		"by Reload": func(t *testing.T, layer *layers.TLS) { require.NoError(t, layer.Reload()) },
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				s := newSource(issue(ca, raftID.String(), serial(1)), ca)
				_, layer := listen(t, net, "a", secure(s, tlsconfig.AuthorizeAny(), nil))
				client := issue(ca, raftID.String())
				require.EqualValues(t, 1, serialOf(t, net, client, "a"))
				s.show(issue(ca, raftID.String(), serial(2)))
				require.EqualValues(t, 1, serialOf(t, net, client, "a"))
				follow(t, layer)
				require.EqualValues(t, 2, serialOf(t, net, client, "a"))
			})
		})
	}
}

// A node goes on with what it has while its source has nothing that can be used, says so
// once, and uses what comes next.
func TestTLSConfig_GoesOnWhileItsSourceFails(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(s *source, ca *testca.Authority)
		text  string
	}{
		"an error":        {func(s *source, _ *testca.Authority) { s.fail(errors.New("the agent is gone")) }, "the agent is gone"},
		"an empty bundle": {func(s *source, _ *testca.Authority) { s.trust(ours) }, "it has no X.509 authorities"},
		"an expired SVID": {func(s *source, ca *testca.Authority) { s.show(issue(ca, raftID.String(), expired)) }, "expired at"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				s := newSource(issue(ca, raftID.String()), ca)
				a, layer := listen(t, net, "a", secure(s, tlsconfig.AuthorizeID(raftID), &log))
				b, _ := listen(t, net, "b", secure(newSource(issue(ca, raftID.String()), ca), tlsconfig.AuthorizeID(raftID), nil))
				serve(t, a)
				serve(t, b)
				c.spoil(s, ca)
				for range 10 {
					pause(time.Second)
					require.NoError(t, appendOnce(a, "b"))
					require.NoError(t, appendOnce(b, "a"))
				}
				require.ErrorContains(t, layer.Reload(), c.text)
				s.fail(nil)
				s.trust(ours, ca)
				s.show(issue(ca, raftID.String(), serial(2)))
				pause(time.Second)
				synctest.Wait()
				require.EqualValues(t, 2, serialOf(t, net, issue(ca, raftID.String()), "a"))
			})
			require.Equal(t, 1, strings.Count(log.String(), "[ERROR]"), log.String())
			require.Contains(t, log.String(), c.text)
		})
	}
}

// The trust domain moves to another CA, and each node to an SVID of it, while requests
// are under way, each on a connection of its own: none fails.
func TestTLSConfig_RotationFailsNoRequest(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		before, after := testca.New(), testca.New()
		hosts := []string{"a", "b", "c"}
		var sources []*source
		var nodes []*raftwire.NetworkTransport
		for _, host := range hosts {
			s := newSource(issue(before, raftID.String()), before)
			node, _ := listen(t, net, host, secure(s, tlsconfig.AuthorizeID(raftID), nil))
			serve(t, node)
			sources, nodes = append(sources, s), append(nodes, node)
			for _, other := range hosts {
				net.Link(host, other).SetLatency(50 * time.Millisecond)
			}
		}
		done := make(chan struct{})
		var senders sync.WaitGroup
		var sent atomic.Int32
		for i, node := range nodes {
			target := raftwire.ServerAddress(hosts[(i+1)%len(hosts)])
			senders.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					if err := appendOnce(node, target); err != nil {
						t.Errorf("%s to %s: %v", hosts[i], target, err)
					}
					sent.Add(1)
				}
			})
		}
		for _, step := range []func(s *source){
			func(s *source) { s.trust(ours, before, after) },
			func(s *source) { s.show(issue(after, raftID.String())) },
			func(s *source) { s.trust(ours, after) },
		} {
			for _, s := range sources {
				step(s)
				pause(1500 * time.Millisecond) // beyond ReloadInterval
			}
		}
		close(done)
		senders.Wait()
		require.Greater(t, sent.Load(), int32(50))

		late, _ := listen(t, net, "late", secure(newSource(issue(before, raftID.String()), before, after), tlsconfig.AuthorizeID(raftID), nil))
		require.Error(t, appendOnce(late, "a"), "the old CA is still trusted")
	})
}
