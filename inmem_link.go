package raftwire

import (
	"math/rand/v2"
	"time"

	"github.com/raftwire/raftwire/internal/faults"
	"github.com/raftwire/raftwire/internal/tasks"
)

// InmemLink is one direction between two addresses of an [InmemNetwork]. It carries
// messages: requests in its direction, and answers to requests of the other direction.
// Other messages are the chunks of a snapshot, the opening of a pipeline, a refusal, and
// the news that a peer was closed.
//
// Its methods do not block, and may be called by several goroutines at once. Negative
// times, and shares outside of 0 to 1, make them panic.
//
// A message that is lost stays lost; nobody is told, and nobody sends it again.
// A call whose request or answer is lost ends by its timeout. In a pipeline and
// in a snapshot, messages are in order, so nothing follows a lost one in its
// direction: the rest waits, and fails by the timeout too. Without a timeout it waits
// until the sender is closed or disconnects.
type InmemLink struct {
	network  *InmemNetwork // nil if Connect has made the link, which has no faults then
	from, to ServerAddress
	back     *InmemLink // the other direction
	traffic  traffic    // says only when the last request was made that was answered

	// protected by network.mu
	cut     bool
	cuts    int // how often it was cut
	latency time.Duration
	jitter  time.Duration
	loss    float64
	random  *rand.Rand
}

// Cut makes the link a black hole: messages on their way are lost, and so are messages
// that are sent before [InmemLink.Heal]. If one direction is cut, requests may arrive
// while their answers do not. Pipelines on which nothing was sent meanwhile have lost
// nothing. (The links of package faultnet hold bytes until they heal, because TCP would
// send them again.)
func (l *InmemLink) Cut() { l.network.do(func() { l.setCut(true) }, "cut %s %s", l.from, l.to) }

// Heal ends Cut.
func (l *InmemLink) Heal() { l.network.do(func() { l.setCut(false) }, "heallink %s %s", l.from, l.to) }

// SetLatency sets how long messages travel that are sent from now on.
func (l *InmemLink) SetLatency(d time.Duration) {
	mustNotBeNegative("the latency for SetLatency is", d)
	l.network.do(func() { l.latency = d }, "latency %s %s %v", l.from, l.to, d)
}

// SetJitter adds a random time of at most d to the latency of each message that
// is sent from now on. The order within a pipeline stays.
func (l *InmemLink) SetJitter(d time.Duration) {
	mustNotBeNegative("the jitter for SetJitter is", d)
	l.network.do(func() { l.jitter = d }, "jitter %s %s %v", l.from, l.to, d)
}

// SetLoss sets which share, from 0 to 1, of the messages that are sent from now on is
// lost.
func (l *InmemLink) SetLoss(share float64) {
	mustBeShare("the loss for SetLoss is", share)
	l.network.do(func() { l.loss = share }, "loss %s %s %v", l.from, l.to, share)
}

// setCut is called with network.mu held.
func (l *InmemLink) setCut(cut bool) {
	if l.cut = cut; cut {
		l.cuts++
	}
}

// sent is something in a message that was sent.
type sent[T any] struct {
	what T
	passage
}

// passage is a message on its way.
type passage struct {
	due  time.Time // zero means at once
	lost bool
	cuts int // of the link, when it left
}

// depart sends a message.
func (l *InmemLink) depart() (m passage) {
	if l.network == nil {
		return m
	}
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	m = passage{lost: l.cut || l.loss > 0 && l.random.Float64() < l.loss, cuts: l.cuts}
	if delay := faults.Delay(l.latency, l.jitter, l.random); delay > 0 {
		m.due = time.Now().Add(delay)
	}
	return m
}

// await blocks until a message has arrived. It returns false if stop is closed
// or expired before; for a lost message that is what it waits for.
func (l *InmemLink) await(m passage, stop <-chan struct{}, expired <-chan time.Time) bool {
	left := time.Until(m.due)
	if left <= 0 && l.delivers(m) {
		return true
	}
	due, cancel := tasks.After(left)
	defer cancel()
	for {
		select {
		case <-due:
			if l.delivers(m) {
				return true
			}
		case <-stop:
			return false
		case <-expired:
			return false
		}
	}
}

// delivers reports whether nothing has happened to a message that is due.
func (l *InmemLink) delivers(m passage) bool {
	if l.network == nil {
		return true
	}
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	return !m.lost && m.cuts == l.cuts
}

// carry sends a message and waits for it to arrive.
func (l *InmemLink) carry(stop <-chan struct{}) bool { return l.await(l.depart(), stop, nil) }
