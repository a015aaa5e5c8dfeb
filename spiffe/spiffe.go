package spiffe

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/raftwire/raftwire/layers"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// TLSConfig returns the configuration of a node that shows the SVID of svids, and
// takes from bundles the bundle of that SVID's trust domain. A
// *workloadapi.X509Source is both. The sources stay yours. They are asked by the
// layer's Load, so they may block: see LoadTimeout. Two layers ask concurrently.
//
// authorize decides on each handshake, by the peer's SPIFFE ID, whether the peer is
// let in. It is called on both sides, concurrently, with an ID of the node's own trust
// domain and the chains from the peer's SVID to the bundle; it must not block. A Raft
// node dials its peers and is dialled by them, so let in the IDs of all nodes:
// tlsconfig.AuthorizeID if they share one, else AuthorizeOneOf. AuthorizeAny and
// AuthorizeMemberOf let in every workload of the trust domain.
//
// You may set more fields of what is returned, such as Logger, ReloadInterval or
// Refused. Leave Load, Authorize and AuthorizeNames, which belong together, and
// ServerName and ServerNameFor, which AuthorizeNames excludes. To check more of a
// peer, such as its address, wrap Authorize.
//
// A nil argument, an error of a source, an SVID that cannot be used and a bundle
// without authorities are errors of layers.NewTLS, and of Reload later.
func TLSConfig(svids x509svid.Source, bundles x509bundle.Source, authorize tlsconfig.Authorizer) layers.TLSConfig {
	n := &node{svids: svids, bundles: bundles, authorize: authorize}
	n.trusted.Store(new(x509bundle.Bundle)) // nobody, before the first load
	return layers.TLSConfig{Load: n.load, AuthorizeNames: true, Authorize: n.authorizePeer}
}

type node struct {
	svids     x509svid.Source
	bundles   x509bundle.Source
	authorize tlsconfig.Authorizer
	trusted   atomic.Pointer[x509bundle.Bundle] // that load has returned last
}

func (n *node) load() (*tls.Certificate, *x509.CertPool, error) {
	if err := n.check(); err != nil {
		return nil, nil, err
	}
	svid, err := n.svids.GetX509SVID()
	if err == nil && svid == nil {
		err = errors.New("it is nil")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("no X509-SVID: %w", err)
	}
	bundle, err := n.bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err == nil && (bundle == nil || bundle.Empty()) {
		err = errors.New("it has no X.509 authorities, so no peer could be verified")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("no bundle of the trust domain %s: %w", svid.ID.TrustDomain(), err)
	}
	n.trusted.Store(bundle)
	return certificateOf(svid), poolOf(bundle), nil
}

func (n *node) check() error {
	switch {
	case isNil(n.svids):
		return errors.New("the source of X509-SVIDs given to spiffe.TLSConfig is nil: look at the error of its constructor")
	case isNil(n.bundles):
		return errors.New("the source of bundles given to spiffe.TLSConfig is nil: look at the error of its constructor")
	case n.authorize == nil:
		return errors.New("the authorizer given to spiffe.TLSConfig is nil: use tlsconfig.AuthorizeID or AuthorizeOneOf with the IDs of your nodes")
	}
	return nil
}

func isNil(source any) bool {
	value := reflect.ValueOf(source)
	return !value.IsValid() || value.Kind() == reflect.Pointer && value.IsNil()
}

// certificateOf leaves it to the layer to see whether certificate and key can be used.
func certificateOf(svid *x509svid.SVID) *tls.Certificate {
	certificate := &tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, c := range svid.Certificates {
		certificate.Certificate = append(certificate.Certificate, c.Raw)
	}
	return certificate
}

func poolOf(bundle *x509bundle.Bundle) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, authority := range bundle.X509Authorities() {
		pool.AddCert(authority)
	}
	return pool
}

// authorizePeer is called when the layer has verified the peer's certificate by the
// pool. An X509-SVID needs more: one URI, no rights of a CA, and an ID of the bundle's
// trust domain. As a source, a bundle has no other domain than its own.
func (n *node) authorizePeer(peer *layers.TLSPeer) error {
	trusted := n.trusted.Load()
	id, chains, err := x509svid.Verify(slices.Concat(peer.Chains...), trusted)
	if err != nil {
		return fmt.Errorf("it has no X509-SVID of the trust domain %s: %w", trusted.TrustDomain(), err)
	}
	return n.authorize(id, chains)
}
