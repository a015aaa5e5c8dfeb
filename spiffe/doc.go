// Package spiffe takes a node's TLS material from SPIFFE: its certificate is an
// X509-SVID, its CAs are the bundle of its trust domain, and its peers are known by
// their SPIFFE IDs. Certificates need no host names.
//
// The material comes from sources of go-spiffe, such as the X509Source that an agent
// of SPIRE feeds:
//
//	source, err := workloadapi.NewX509Source(ctx)
//	...
//	security := spiffe.TLSConfig(source, source, tlsconfig.AuthorizeID(id))
//	transport, err := layers.NewTLSTransport("10.0.0.1:8300", nil, security, config)
//
// hashicorpraft.NewTLSTransport takes the same configuration.
//
// # Rotation
//
// The layer asks the sources again each ReloadInterval, which is a second unless you
// set it. An X509Source answers from memory. What is new is used by the handshakes
// that begin afterwards. Connections that stand are not touched, even when the SVID
// that they were made with expires. This package has no goroutine, so there is nothing
// to close. To use an update sooner, call Reload on a goroutine of yours:
//
//	for source.WaitUntilUpdated(ctx) == nil {
//		_ = layer.Reload() // the layer logs its error
//	}
//
// To cut off a peer, change what authorize answers, or remove the authority from the
// bundle. Then call Reload on the layer and CloseStreams on the transport: see
// [layers.TLS].
//
// While a source returns an error, a bundle without authorities or an SVID that has
// expired, the node goes on with what it has, and the log says why. Close the
// transport before the source.
//
// # Trust domains
//
// Peers must be of the node's own trust domain. Peers of federated trust domains are
// refused, whatever authorize says: TLS verifies all peers by one set of CAs, and in
// one set the CA of one domain could sign the IDs of another.
package spiffe
