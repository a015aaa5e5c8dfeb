package probe

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// waitForClose is how long a port has to close a connection that it does not like,
// where staying open means something. It is bounded by Config.Timeout.
const waitForClose = 2 * time.Second

// Run probes. The order is that which disturbs least:
//
//  1. Without Config.Via, a TLS handshake. What speaks TLS answers it. A Raft node without
//     TLS closes the connection, and logs a line.
//  2. The pre-vote, inside TLS if that was found.
//  3. Only if nothing was answered: an HTTP request, which makes an HTTP server speak
//     and a Raft node close the connection; so silence there is the core's.
//  4. Only if the connection was closed: the beginning of a RequestVote, which older nodes
//     than those with pre-votes wait for the rest of. No core gets to see it.
func Run(c Config) *Report {
	p := &prober{&c, &Report{Address: c.Address, Via: []string{}}}
	via, sought := c.Via, c.Via == nil
	if sought {
		via = []Step{{TLS: true}}
	}
	f := p.askPreVote(via)
	if sought && f != nil && f.handshake && f.result == Closed {
		p.report.TLS, via = nil, []Step{}
		f = p.askPreVote(via)
		p.note("The search for TLS may have made the peer log a refused connection. -via none avoids that.")
	}
	if f != nil && f.handshake && f.result != Refused {
		p.report.TLS, via = nil, f.passed
	}
	if f == nil || f.result != Unreachable {
		p.report.Via = names(via)
	}
	if f != nil {
		p.explain(f)
	}
	return p.report
}

// prober fills a report.
type prober struct {
	config *Config
	report *Report
}

func (p *prober) note(text string) { p.report.Notes = append(p.report.Notes, text) }

// conclude sets the result.
func (p *prober) conclude(result Result, format string, args ...any) {
	p.report.Result, p.report.Detail = result, fmt.Sprintf(format, args...)
}

// askPreVote asks the core, and concludes if it answers.
func (p *prober) askPreVote(via []Step) *failure {
	conn, f := p.config.open(via)
	if conn == nil {
		return f
	}
	defer conn.Close()
	p.report.Connect, p.report.TLS = Millis(conn.took), conn.tls
	if f != nil {
		return f
	}
	began := time.Now()
	in, f := conn.ask(preVote(), p.config.Timeout)
	if f != nil {
		return f
	}
	answer, text, err := readAnswer(in)
	took := time.Since(began)
	if err != nil && took >= p.config.Timeout { // half an answer is none
		return &failure{result: Silent, passed: via, err: err}
	}
	if err != nil {
		return &failure{result: Foreign, passed: via, err: fmt.Errorf("something whose answer is no Raft: %w", err)}
	}
	p.report.Identity = answer.Hello.identity()
	switch {
	case answer.Hello.Refused == refusedNoIdentity:
		p.conclude(IdentityRequired, "the node refuses peers that do not say who they are (Identity.Require): its core was not asked")
		p.note("The node has counted a refused connection (NoIdentity), and may have logged it.")
		return nil
	case text != "":
		p.conclude(CoreError, "the core answers with an error: %s", text)
	default:
		p.report.Node = &Node{
			ID: string(answer.ID), Address: string(answer.Addr), Protocol: int(answer.ProtocolVersion),
			Term: answer.Term, Granted: answer.Granted, RoundTrip: Millis(took),
		}
		p.concludeAnswered()
	}
	p.note("The core has handled one pre-vote from " + Name + ": it may have logged a WARN, and its observers were told. That changes no term, vote or log of hashicorp/raft.")
	return nil
}

// concludeAnswered is called with an answer of the core.
func (p *prober) concludeAnswered() {
	if p.report.TLS != nil && p.report.TLS.Certificate != nil && p.report.TLS.Certificate.Problem != "" {
		p.conclude(Untrusted, "the Raft core answers, but the certificate does not pass: %s", p.report.TLS.Certificate.Problem)
		return
	}
	who := "hashicorp/raft 1.7 or newer, or raftwire (their bytes are the same)"
	if p.report.Identity != nil {
		who = "raftwire, with an Identity"
	}
	p.conclude(Raft, "the Raft core answers: %s", who)
	if p.report.Node.Granted {
		p.note("It would vote for anybody: it has no term and no configuration, so it was not bootstrapped and belongs to no cluster yet.")
	}
}

// explain concludes from a failure, with one connection more where that tells
// something apart.
func (p *prober) explain(f *failure) {
	switch f.result {
	case Unreachable:
		p.conclude(Unreachable, "nothing accepts connections: %v", f.err)
	case Refused:
		p.conclude(Refused, "TLS is spoken, but this client is refused: %v%s", f.err, p.hintForTLS())
	case Foreign:
		p.conclude(Foreign, "not Raft: %v answers", f.err)
	case Silent:
		p.explainSilence(f)
	case Closed:
		p.explainClose(f)
	}
}

// hintForTLS says what a refused client can try.
func (p *prober) hintForTLS() string {
	switch {
	case p.report.TLS == nil:
		return ""
	case p.report.TLS.ClientCertificate == "asked for, none shown":
		return " (it asks for a client certificate: give -cert and -key)"
	case len(p.config.Protocols) == 0:
		return " (it may want a protocol: give -alpn)"
	}
	return ""
}

// explainSilence tells a silent core from a silent port.
func (p *prober) explainSilence(f *failure) {
	switch g := p.tryAgain(f.passed, askHTTP, p.config.Timeout); {
	case g == nil || g.result == Foreign:
		p.conclude(Foreign, "not Raft: %v answers", answerer(g))
	case g.result == Closed && !f.handshake:
		p.conclude(CoreSilent, "the port speaks Raft, but its core has not answered a pre-vote within %v: it hangs, or is overloaded", p.config.Timeout)
	case g.result == Silent && slices.Contains(f.passed, Step{TLS: true}):
		p.conclude(Silent, "TLS is spoken, but nothing is answered inside within %v", p.config.Timeout)
	case g.result == Silent:
		p.conclude(Silent, "connections are accepted, but nothing is answered within %v: a process that hangs, or no Raft", p.config.Timeout)
	default:
		p.conclude(Silent, "the answer did not come within %v: %v", p.config.Timeout, f.err)
	}
}

// answerer says what answered, which a failure knows if it was no msgpack.
func answerer(f *failure) any {
	if f == nil {
		return "something"
	}
	return f.err
}

// explainClose tells hashicorp/raft before 1.7 from what closes every connection.
func (p *prober) explainClose(f *failure) {
	var g *failure
	if !f.handshake {
		g = p.tryAgain(f.passed, beginVote, min(waitForClose, p.config.Timeout))
	}
	switch {
	case f.handshake:
		p.conclude(Closed, "the TLS handshake is met by a close: there is no TLS, or this host is not let in")
	case g == nil || g.result == Foreign:
		p.conclude(Foreign, "not Raft: %v answers", answerer(g))
	case g.result == Silent:
		p.conclude(Before17, "hashicorp/raft before 1.7: it closes a pre-vote, and waits for the rest of a vote (a port that is shared, and wants a key, could do so too: see -via)")
	default:
		p.conclude(Closed, "it closes the connection without an answer: %s", strings.Join(p.suspicions(), ", or "))
	}
}

// suspicions are why a port may close every connection.
func (p *prober) suspicions() []string {
	all := []string{"it wants a key first (-via)"}
	if p.report.TLS != nil && p.report.TLS.Protocol == "" {
		all = append(all, "a protocol of TLS (-alpn)")
	}
	if p.report.TLS == nil {
		all = append(all, "it wants TLS (-via tls)")
	}
	return append(all, "it does not let this host in", "it is no Raft")
}

// tryAgain sends a request on a new connection. nil means that a msgpack string came
// back.
func (p *prober) tryAgain(via []Step, request []byte, limit time.Duration) *failure {
	conn, f := p.config.open(via)
	if conn == nil {
		return f
	}
	defer conn.Close()
	if f == nil {
		_, f = conn.ask(request, limit)
	}
	return f
}
