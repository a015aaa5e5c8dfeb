package layers

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/sniff"
)

// explainAccepted tells what the end of a handshake with a peer at address
// means, which the peer began.
func explainAccepted(address string, err error) error {
	refused := func(class, format string, args ...any) error {
		return &door.Refusal{Reason: door.Untrusted, Detail: class, Member: door.HostOf(address), Err: fmt.Errorf(format, args...)}
	}
	var (
		header     tls.RecordHeaderError
		unverified *tls.CertificateVerificationError
		denied     *unauthorizedError
	)
	switch {
	case isGone(err):
		return err
	case errors.As(err, &header):
		guess, looks := guessForeign(header.RecordHeader[0])
		return &door.Refusal{Reason: door.Foreign, Detail: guess, Err: fmt.Errorf("no TLS, and nothing else is spoken here: %s", looks)}
	case errors.As(err, &unverified):
		leaf := unverified.UnverifiedCertificates[0]
		return refused(classOf(unverified.Err), "the certificate %s does not hold: %w", describe(leaf), unverified.Err)
	case errors.As(err, &denied):
		return refused("not authorized", "%w", err)
	case isAlert(err):
		return refused("alert", "the peer does not want this node: %w", err)
	}
	return refused("handshake", "TLS handshake: %w", err)
}

// isGone reports whether a connection ended before anything was wrong with it.
func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errno.IsCut(err)
}

// guessForeign says what a connection looks like that does not begin with TLS, and
// in a sentence. The guess is "" if it looks like nothing known.
func guessForeign(first byte) (guess, text string) {
	guess = sniff.Request(first)
	if first < sniff.RaftKinds {
		guess = "a Raft peer without TLS"
	}
	if guess == "" {
		return "", fmt.Sprintf("it begins with byte %#x", first)
	}
	return guess, "this looks like " + guess
}

// guessAnswer says what the other end looks like whose answer is not TLS.
func guessAnswer(first byte) string {
	if guess := sniff.Answer(first); guess != "" {
		return "it looks like " + guess
	}
	return fmt.Sprintf("its answer begins with byte %#x", first)
}

// unauthorizedError is why a peer with a valid certificate was not let in.
type unauthorizedError struct {
	peer *TLSPeer
	err  error
}

func (e *unauthorizedError) Error() string {
	return fmt.Sprintf("the peer with the certificate %s is not authorized: %v", describe(e.peer.Certificate()), e.err)
}

func (e *unauthorizedError) Unwrap() error { return e.err }

// classOf puts what is wrong with a certificate into one of a few words.
func classOf(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown):
		return "unknown CA"
	case errors.As(err, &invalid):
		return fmt.Sprint("invalid ", invalid.Reason)
	}
	return "certificate"
}

// isAlert reports whether the peer has ended the handshake with an alert.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// explainDialled tells what the end of a handshake means that we began.
func explainDialled(err error) error {
	var (
		header     tls.RecordHeaderError
		host       x509.HostnameError
		unverified *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &header):
		return fmt.Errorf("the peer does not speak TLS: %s", guessAnswer(header.RecordHeader[0]))
	case isGone(err):
		return fmt.Errorf("the peer closed the connection (does it accept TLS there?): %w", err)
	case errors.As(err, &host) && len(host.Certificate.URIs) > 0:
		return fmt.Errorf("%w (the certificate is %s: if peers are known by URIs, set TLSConfig.ServerName or AuthorizeNames)", err, describe(host.Certificate))
	case errors.As(err, &unverified) && len(unverified.UnverifiedCertificates[0].URIs) > 0:
		return fmt.Errorf("%w (the certificate is %s)", err, describe(unverified.UnverifiedCertificates[0]))
	}
	return err
}

// describe names a certificate in quotes.
func describe(certificate *x509.Certificate) string {
	return fmt.Sprintf("%.200q", namesIn(certificate))
}

// namesIn returns a certificate's subject and a few of its names.
func namesIn(certificate *x509.Certificate) string {
	const shown = 3
	names := append([]string{certificate.Subject.CommonName}, certificate.DNSNames...)
	for _, ip := range certificate.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range certificate.URIs {
		names = append(names, uri.String())
	}
	if names[0] == "" {
		names = names[1:]
	}
	names = slices.Compact(names)
	more := ""
	if len(names) > shown {
		names, more = names[:shown], ", ..."
	}
	return strings.Join(names, ", ") + more
}
