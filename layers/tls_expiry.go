package layers

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/logs"
)

// An expired certificate fails new handshakes only: the cluster works until a connection
// is cut. So the log warns before, and transports show the times in their Stats.

const (
	// warnBefore is how long before its end the log warns of a certificate, or a quarter
	// of its lifetime if that is less. SPIRE renews after a half of the lifetime and
	// cert-manager after two thirds, so what they renew in time is in no warning.
	warnBefore = 7 * 24 * time.Hour

	// warnAgain is the time from one warning to the next.
	warnAgain = 24 * time.Hour
)

// expiring is a layer that knows when the own certificate and its CA expire. A
// NetworkTransport looks for the same method.
type expiring interface {
	Expires() (certificate, ca time.Time)
}

// expiresOf returns what a layer says, or zero if it says nothing.
func expiresOf(layer any) (certificate, ca time.Time) {
	if e, ok := layer.(expiring); ok {
		return e.Expires()
	}
	return time.Time{}, time.Time{}
}

// Expires does not block.
func (i *identity) Expires() (certificate, ca time.Time) {
	material := i.material.Load()
	if material.ca != nil {
		ca = material.ca.NotAfter
	}
	return material.first().NotAfter, ca
}

// findCA returns the certificate that ends the trust in m's own certificates from above;
// nil if the CAs of m have not signed them.
func (m *material) findCA() *x509.Certificate {
	var all []*x509.Certificate
	for _, certificate := range m.certificates() {
		if ca := lastCA(certificate, m.cas); ca != nil {
			all = append(all, ca)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return slices.MinFunc(all, byExpiry)
}

// lastCA returns the certificate above another one that expires first, in the chain of
// those that holds longest. So a CA that is trusted beside the own one does not count,
// whether it is an old one or one to come. If a CA has expired, it is that one.
func lastCA(certificate *tls.Certificate, cas *x509.CertPool) *x509.Certificate {
	all := []*x509.Certificate{certificate.Leaf}
	for _, der := range certificate.Certificate[1:] {
		if intermediate, err := x509.ParseCertificate(der); err == nil {
			all = append(all, intermediate)
		}
	}
	var (
		chains [][]*x509.Certificate
		err    error
	)
	// A CA in the chain may have expired since the beginning, or begin before the end.
	for _, at := range []time.Time{certificate.Leaf.NotBefore, certificate.Leaf.NotAfter, time.Now()} {
		var found [][]*x509.Certificate
		found, err = verify(all, cas, x509.ExtKeyUsageAny, at)
		chains = append(chains, found...)
	}
	if len(chains) == 0 {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return invalid.Cert
		}
		return nil
	}
	var last []*x509.Certificate
	for _, chain := range chains {
		above := chain[min(1, len(chain)-1):] // a certificate may be its own CA
		last = append(last, slices.MinFunc(above, byExpiry))
	}
	return slices.MaxFunc(last, byExpiry)
}

func byExpiry(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }

// expiryWarning warns of a certificate until another one is in its place.
type expiryWarning struct {
	of   *x509.Certificate // or nil
	last time.Time         // the last warning of any certificate
	next time.Time         // the next one
}

// watch changes the certificate. Another one is in the log as soon as it is due.
func (w *expiryWarning) watch(certificate *x509.Certificate) {
	if certificate == nil || certificate.Equal(w.of) {
		w.of = certificate
		return
	}
	w.of, w.next = certificate, warnFrom(certificate)
	if soonest := w.last.Add(tellAgain); w.next.Before(soonest) {
		w.next = soonest
	}
}

// warnFrom returns when whatever renews a certificate should have done so.
func warnFrom(certificate *x509.Certificate) time.Time {
	lifetime := certificate.NotAfter.Sub(certificate.NotBefore)
	return certificate.NotAfter.Add(-min(warnBefore, lifetime/4))
}

// warn writes text if it is due: at first, each day, and when the certificate expires.
// It returns when to call it again; zero is never.
func (w *expiryWarning) warn(text string, logger hclog.Logger) time.Time {
	if w.of == nil {
		return time.Time{}
	}
	if now := time.Now(); !now.Before(w.next) {
		logger.Warn(text, logs.KeyCert, cmp.Or(namesIn(w.of), w.of.Subject.String()), logs.KeyExpires, w.of.NotAfter)
		w.last, w.next = now, now.Add(warnAgain)
		if end := w.of.NotAfter; end.After(now) && end.Before(w.next) {
			w.next = end
		}
	}
	return w.next
}

// warnOfExpiry writes the warnings that are due and returns when to call it again.
func (i *identity) warnOfExpiry() time.Time {
	return earlier(
		i.ownExpiry.warn("renew this node's own certificate: peers refuse it once it has expired", i.config.Logger),
		i.caExpiry.warn("replace the CA of this node's own certificate: peers refuse both once the CA has expired", i.config.Logger))
}

// earlier returns the earlier of two times; zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
