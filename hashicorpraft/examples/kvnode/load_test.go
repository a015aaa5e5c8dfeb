package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// load is clients that write all the time, each write a key of its own, through
// all nodes in turn.
type load struct {
	t      *testing.T
	nodes  []*process
	client *http.Client
	ctx    context.Context
	stop   func() // ends the clients and waits for them

	lock         sync.Mutex // protects following
	attempted    map[string]string
	acknowledged []string // keys
	failures     []failure
	changed      chan struct{} // closed at the next acknowledgement
}

// failure is a write that was not acknowledged.
type failure struct {
	host string // that answered, or did not
	err  error
}

func (f failure) String() string { return f.err.Error() }

func startLoad(t *testing.T, nodes []*process) *load {
	l := &load{
		t:         t,
		nodes:     nodes,
		client:    &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}, Timeout: testPatience / 4},
		attempted: map[string]string{},
		changed:   make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.ctx = ctx
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() { l.run(client) })
	}
	l.stop = func() {
		cancel()
		clients.Wait()
		l.client.CloseIdleConnections()
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) run(client int) {
	for i := client; l.ctx.Err() == nil; i++ {
		key, node, other := fmt.Sprintf("client%d/key%d", client, i), l.nodes[i%len(l.nodes)], l.nodes[(i+1)%len(l.nodes)]
		switch f := l.write(node, key, fmt.Sprintf("value of %s", key)); {
		case l.ctx.Err() != nil: // and so nothing is known
		case f != nil:
			l.fail(*f)
			l.pause()
		case i%8 == 0:
			l.acknowledge(key)
			l.readBack(other, key)
		default:
			l.acknowledge(key)
		}
	}
}

// write returns nil if the write was acknowledged.
func (l *load) write(node *process, key, value string) *failure {
	l.lock.Lock()
	l.attempted[key] = value
	l.lock.Unlock()
	request, err := http.NewRequestWithContext(l.ctx, http.MethodPut, "http://"+node.http+"/kv/"+key, strings.NewReader(value))
	if err != nil {
		return &failure{node.http, err}
	}
	answer, err := l.client.Do(request)
	if err != nil {
		return &failure{hostOf(err, node.http), err}
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusNoContent {
		return &failure{answer.Request.URL.Host, fmt.Errorf("%s: %s: %s", answer.Request.URL.Host, answer.Status, text)}
	}
	return nil
}

// hostOf returns whose fault err is: after a redirection, not the first node's.
func hostOf(err error, first string) string {
	var failed *url.Error
	if errors.As(err, &failed) {
		if at, err := url.Parse(failed.URL); err == nil {
			return at.Host
		}
	}
	return first
}

func (l *load) acknowledge(key string) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.acknowledged = append(l.acknowledged, key)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *load) fail(f failure) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.failures = append(l.failures, f)
}

// pause keeps a client from trying as fast as it can.
func (l *load) pause() {
	timer := time.NewTimer(20 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.ctx.Done():
	}
}

// readBack reads what was just acknowledged: whichever node is asked, an answer
// is the value.
func (l *load) readBack(node *process, key string) {
	request, err := http.NewRequestWithContext(l.ctx, http.MethodGet, "http://"+node.http+"/kv/"+key, nil)
	if err != nil {
		l.t.Error(err)
		return
	}
	answer, err := l.client.Do(request)
	if err != nil {
		return
	}
	defer answer.Body.Close()
	value, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= http.StatusInternalServerError {
		return
	}
	if answer.StatusCode != http.StatusOK || string(value) != l.attemptedValue(key) {
		l.t.Errorf("%s: what was acknowledged is read as %s: %q", key, answer.Status, value)
	}
}

func (l *load) attemptedValue(key string) string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.attempted[key]
}

// awaitWrites waits for count more acknowledgements.
func (l *load) awaitWrites(count int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.ctx, testPatience)
	defer cancel()
	have, changed := l.progress()
	for want := have + count; have < want; have, changed = l.progress() {
		select {
		case <-changed:
		case <-ctx.Done():
			l.t.Fatalf("writes stand still: %d more were acknowledged, want %d", have-want+count, count)
		}
	}
}

func (l *load) progress() (int, <-chan struct{}) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return len(l.acknowledged), l.changed
}

// takeFailures returns what failed since it was last called, but for what
// failed at one node.
func (l *load) takeFailures(except *process) (failed []failure) {
	l.lock.Lock()
	defer l.lock.Unlock()
	for _, f := range l.failures {
		if f.host != except.http {
			failed = append(failed, f)
		}
	}
	l.failures = nil
	return failed
}

// compare checks that n has everything that was acknowledged, and nothing that
// nobody wrote.
func (l *load) compare(n *process) {
	l.t.Helper()
	answer, err := http.Get("http://" + n.http + "/local")
	require.NoError(l.t, err)
	defer answer.Body.Close()
	var has map[string][]byte
	require.NoError(l.t, json.NewDecoder(answer.Body).Decode(&has))
	var lost, wrong []string
	for _, key := range l.acknowledged {
		if _, ok := has[key]; !ok {
			lost = append(lost, key)
		}
	}
	for key, value := range has {
		if string(value) != l.attempted[key] {
			wrong = append(wrong, fmt.Sprintf("%s=%q", key, value))
		}
	}
	if len(lost)+len(wrong) > 0 {
		l.t.Errorf("%s has lost %d writes that were acknowledged, %.200q, and has %d that nobody made, %.200q", n.id, len(lost), lost, len(wrong), wrong)
	}
}
