package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/hashicorp/raft"
)

// api is the HTTP API of a node. Any node takes any request; what only the
// leader can do, the others redirect to it (curl follows with -L).
type api struct{ *node }

func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	// For clients.
	mux.HandleFunc("PUT /kv/{key...}", a.atLeader(a.put))
	mux.HandleFunc("DELETE /kv/{key...}", a.atLeader(a.delete))
	mux.HandleFunc("GET /kv/{key...}", a.atLeader(a.get))
	// For operators: what this node knows, be it leader or not.
	mux.HandleFunc("GET /local/{key...}", a.getLocal)
	mux.HandleFunc("GET /local", a.listLocal)
	mux.HandleFunc("GET /status", a.status)
	mux.Handle("GET /metrics", metricsHandler(a.metrics))
	// For what starts and stops nodes.
	mux.HandleFunc("GET /live", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /ready", a.ready)
	return mux
}

const (
	maxValue = 1 << 20
	// applyTimeout is how long a request may wait for its place in the queue;
	// there is none for what follows.
	applyTimeout = 5 * time.Second
)

func (a *api) put(w http.ResponseWriter, r *http.Request) {
	value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxValue))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		http.Error(w, "a value may have 1 MiB", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.apply(w, r, command{Key: r.PathValue("key"), Value: value})
}

func (a *api) delete(w http.ResponseWriter, r *http.Request) {
	a.apply(w, r, command{Key: r.PathValue("key"), Delete: true})
}

// apply answers when most nodes have the command on disk, and this one has
// applied it.
func (a *api) apply(w http.ResponseWriter, r *http.Request, c command) {
	if err := a.Apply(c.encode(), applyTimeout).Error(); err != nil {
		a.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// get answers with what all writes have done that ended before it began. The
// barrier sees to that: it passes through the log, so this node still leads and
// has applied all that came before.
func (a *api) get(w http.ResponseWriter, r *http.Request) {
	if err := a.Barrier(applyTimeout).Error(); err != nil {
		a.fail(w, r, err)
		return
	}
	a.getLocal(w, r)
}

// getLocal answers with what this node has, which may be old.
func (a *api) getLocal(w http.ResponseWriter, r *http.Request) {
	value, ok := a.store.get(r.PathValue("key"))
	if !ok {
		http.Error(w, "no such key", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(value)
}

func (a *api) listLocal(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.store.all()) }

// status is what an operator asks for between two steps of a change.
type status struct {
	ID        raft.ServerID     `json:"id"`
	Transport string            `json:"transport"`
	Leader    raft.ServerID     `json:"leader"`
	Raft      map[string]string `json:"raft"`
}

func (a *api) status(w http.ResponseWriter, _ *http.Request) {
	_, leader := a.LeaderWithID()
	writeJSON(w, status{a.id, a.transport, leader, a.Stats()})
}

// ready answers 200 if this node knows a leader, so that it can serve requests or
// say who does. Until then the next node must not be stopped. A node that is not
// ready need not be started anew.
func (a *api) ready(w http.ResponseWriter, _ *http.Request) {
	if _, leader := a.LeaderWithID(); leader == "" {
		tryAgain(w, noLeader)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails if the client has gone
}

// atLeader returns a handler that answers with next at the leader and redirects
// at the other nodes.
func (a *api) atLeader(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if a.State() != raft.Leader {
			a.redirect(w, r)
			return
		}
		next(w, r)
	}
}

const noLeader = "no leader is known: an election is under way, or most nodes are out of reach"

func (a *api) redirect(w http.ResponseWriter, r *http.Request) {
	_, id := a.LeaderWithID()
	leader, known := a.peers[id]
	if !known || id == a.id {
		tryAgain(w, noLeader)
		return
	}
	to := *r.URL
	to.Scheme, to.Host = "http", leader.http
	http.Redirect(w, r, to.String(), http.StatusTemporaryRedirect)
}

// fail says what has become of a request that Raft refused: nothing, or nobody
// knows. A client may repeat the first kind without a thought.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		a.redirect(w, r)
	case errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		tryAgain(w, err.Error())
	default:
		http.Error(w, "may or may not have been done: "+err.Error(), http.StatusInternalServerError)
	}
}

func tryAgain(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, why, http.StatusServiceUnavailable)
}
