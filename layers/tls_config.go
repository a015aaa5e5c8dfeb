package layers

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/logs"
)

const (
	defaultHandshakeTimeout = 10 * time.Second
	defaultMaxHandshakes    = 1024
	defaultReloadInterval   = time.Second
	defaultLoadTimeout      = 10 * time.Second
)

// TLSConfig configures a [TLS]. A constructor copies it.
//
// Set either the three files or Load. The certificate is used to accept and to
// dial: if it names extended key usages, it must have both, serverAuth and
// clientAuth. If your CA issues a certificate for each, set the one for servers
// there, and the one for clients as ClientCertFile or LoadClient.
//
// ServerNameFor and Authorize run on the goroutine of the dial or handshake that
// they decide about. One that blocks holds up that one alone, but neither a
// timeout nor Close ends it. A panic in a function of TLSConfig is not recovered:
// it ends the process.
type TLSConfig struct {
	// CertFile is a PEM file with the node's certificate, followed by the
	// intermediate ones if there are any.
	CertFile string

	// KeyFile is a PEM file with the private key of CertFile's certificate. It
	// may be the same file.
	KeyFile string

	// ClientCertFile and ClientKeyFile are PEM files like CertFile and KeyFile, with
	// the certificate that is shown to peers that are dialled. It needs clientAuth
	// only, and CertFile's needs serverAuth only. Empty means CertFile and KeyFile.
	ClientCertFile string
	ClientKeyFile  string

	// CAFile is a PEM file with the certificates of the CAs that peers are
	// signed by; the system's CAs play no part. To move to another CA, have both
	// in the file on every node first.
	CAFile string

	// Load returns certificate and CAs from elsewhere than files. It is called when
	// files would be read: by the constructor, then each ReloadInterval and for each
	// Reload, on a goroutine of its own. It is never called concurrently. It may
	// block: see LoadTimeout. What it returns must not be changed any more.
	Load func() (*tls.Certificate, *x509.CertPool, error)

	// LoadClient returns the certificate that is shown to peers that are dialled. It
	// is called after Load, on the same goroutine. nil means that Load's is shown.
	LoadClient func() (*tls.Certificate, error)

	// ReloadInterval is the time from one look at the files to the next, from the
	// constructor to Close. What has changed is used by the handshakes that begin
	// afterwards; connections that stand are not touched. If the files cannot be
	// read or used, what is in use stays in use, and the log says why: at once, and
	// every five minutes while it lasts. 0 means one second; negative means that only
	// [TLS.Reload] reads them again.
	ReloadInterval time.Duration

	// LoadTimeout is how long Reload waits for the files or Load. Reading that takes
	// longer continues, with a warning in the log. Until it is over, nothing else is
	// read, and handshakes use what was loaded before. 0 means 10 seconds; negative is
	// an error.
	LoadTimeout time.Duration

	// ServerName is a name that the certificate of every peer must have, whether the
	// peer dials or is dialled, and whatever its address: a DNS name or IP address,
	// such as "server.dc1.consul" or "server.global.nomad", or a URI, such as
	// "spiffe://cluster/raft".
	// Empty means the host in the address for a peer that is dialled, and any
	// certificate of the CAs for one that dials: set ServerName or Authorize if
	// the CAs sign for others than the peers as well. A node whose own certificate
	// lacks the name warns of that in its log: its peers may ask for it, too.
	ServerName string

	// ServerNameFor returns the name that the certificate of the peer at an
	// address must have, in place of ServerName and for peers that are dialled
	// only; "" means no other. It is called before each dial, by whoever dials, and
	// must not block: the dial would outlast its deadline.
	ServerNameFor func(address raftwire.ServerAddress) string

	// AuthorizeNames says that Authorize checks all names, of peers that are dialled
	// too: their certificates need not have the host of their address. Set it if the
	// certificates have no host names and ServerName is not enough: with SPIFFE, for
	// example. Certificates are still verified by the CAs. It needs Authorize, and no
	// ServerName or ServerNameFor.
	AuthorizeNames bool

	// Authorize decides, after all else was verified, whether a peer is let in;
	// its error is why not. nil lets in everybody who got so far. It is called
	// concurrently, once for each handshake and sometimes again, and must not
	// block: it would hold up that peer, and Close for up to a second, but no other
	// peer. A panic in it ends the process, unless you call Dial yourself: then it
	// reaches you. [AllowNames] and [AllowRole] make such functions.
	Authorize func(peer *TLSPeer) error

	// MinVersion is the oldest version of TLS that is spoken. 0 means
	// tls.VersionTLS13; the only other value allowed is tls.VersionTLS12.
	MinVersion uint16

	// NextProtos are the ALPN protocols that are offered to a peer, or accepted
	// from one, of 1 to 255 bytes each. nil means none: then whatever a peer offers is
	// ignored.
	NextProtos []string

	// HandshakeTimeout bounds a handshake, on either side; on the dialling side
	// the deadline of the dial does as well. 0 means 10 seconds; negative is an
	// error.
	HandshakeTimeout time.Duration

	// MaxHandshakes is how many inbound handshakes may be under way. One more evicts the
	// oldest of the host that has most of them, so that a crowd of stalled ones keeps
	// nobody else out. 0 means 1024; negative is an error.
	MaxHandshakes int

	// Logger takes a line for inbound connections that are refused, and for certificates
	// that change, cannot be read or expire soon. Lines that a stranger can trigger are
	// rate-limited. The warning that the own certificate or its CA expires comes each
	// day in the last week, or in the last quarter of its lifetime if that is shorter.
	// nil means standard error, level info.
	Logger hclog.Logger

	// Refused is called for each inbound connection that is refused, as
	// [raftwire.Hooks].Refused is by a transport: metrics take both. nil means that of
	// the transport's Hooks in [NewTLSTransport], and nothing elsewhere.
	Refused func(raftwire.RefusalEvent)
}

// check returns what is wrong with the configuration, and what to do about it.
// What the files hold is another matter.
func (c *TLSConfig) check() error {
	switch {
	case c.Load != nil && c.CertFile+c.KeyFile+c.ClientCertFile+c.ClientKeyFile+c.CAFile != "":
		return errors.New("raftwire: TLSConfig.Load is set, and so are files: use one or the other")
	case c.Load == nil && c.CAFile == "":
		return errors.New("raftwire: TLSConfig.CAFile is empty: set it to a PEM file with the CAs of your peers, without which none could be verified, or set Load")
	case c.Load == nil && c.CertFile == "":
		return errors.New("raftwire: TLSConfig.CertFile is empty: set it to a PEM file with this node's certificate, since peers verify each other, or set Load")
	case c.Load == nil && c.KeyFile == "":
		return errors.New("raftwire: TLSConfig.KeyFile is empty: set it to the PEM file with the private key of CertFile's certificate; if that is in CertFile, name it again")
	case (c.ClientCertFile == "") != (c.ClientKeyFile == ""):
		return errors.New("raftwire: of TLSConfig.ClientCertFile and ClientKeyFile only one is set: set both, or neither to dial with CertFile's certificate")
	case c.LoadClient != nil && c.Load == nil:
		return errors.New("raftwire: TLSConfig.LoadClient is set, and Load is not: set Load as well, or ClientCertFile and ClientKeyFile in place of LoadClient")
	case c.MinVersion != 0 && c.MinVersion != tls.VersionTLS12 && c.MinVersion != tls.VersionTLS13:
		return fmt.Errorf("raftwire: TLSConfig.MinVersion is %s: use 0 for TLS 1.3, or tls.VersionTLS12", tls.VersionName(c.MinVersion))
	case slices.ContainsFunc(c.NextProtos, isNoProtocol):
		return fmt.Errorf("raftwire: TLSConfig.NextProtos has %q: the name of a protocol has 1 to %d bytes", c.NextProtos[slices.IndexFunc(c.NextProtos, isNoProtocol)], maxProtocol)
	case c.AuthorizeNames && c.Authorize == nil:
		return errors.New("raftwire: TLSConfig.AuthorizeNames is set, and Authorize is not: set it to a function that checks names, such as AllowNames")
	case c.AuthorizeNames && (c.ServerName != "" || c.ServerNameFor != nil):
		return errors.New("raftwire: TLSConfig.AuthorizeNames is set, and so is ServerName or ServerNameFor: use one or the other")
	case c.LoadTimeout < 0:
		return fmt.Errorf("raftwire: TLSConfig.LoadTimeout is %v: use 0 for the default, or a positive duration", c.LoadTimeout)
	case c.HandshakeTimeout < 0:
		return fmt.Errorf("raftwire: TLSConfig.HandshakeTimeout is %v: use 0 for the default, or a positive duration", c.HandshakeTimeout)
	case c.MaxHandshakes < 0:
		return fmt.Errorf("raftwire: TLSConfig.MaxHandshakes is %d: use 0 for the default, or a positive number", c.MaxHandshakes)
	}
	return nil
}

func (c *TLSConfig) setDefaults() {
	c.ReloadInterval = cmp.Or(c.ReloadInterval, defaultReloadInterval)
	c.LoadTimeout = cmp.Or(c.LoadTimeout, defaultLoadTimeout)
	c.MinVersion = cmp.Or(c.MinVersion, tls.VersionTLS13)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, defaultHandshakeTimeout)
	c.MaxHandshakes = cmp.Or(c.MaxHandshakes, defaultMaxHandshakes)
	c.NextProtos = slices.Clone(c.NextProtos) // the caller may use its slice again
	if c.Logger == nil {
		c.Logger = logs.Default()
	}
}
