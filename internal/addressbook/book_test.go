package addressbook

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire/internal/tasks"
	"github.com/stretchr/testify/require"
)

func newBook(provider func(string) (string, error)) *Book {
	return &Book{Provider: provider, Changed: func(_, _, _ string) {}, Tasks: new(tasks.Group)}
}

// What is known of servers is bounded, and so is what a failing call looks at.
func TestBook_ForgetsServers(t *testing.T) {
	b := newBook(func(id string) (string, error) { return "address-of-" + id, nil })
	for i := range 3 * maxServers {
		known, err := b.Find(t.Context(), fmt.Sprint("server-", i), time.Time{}, false)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("address-of-server-", i), known.Address)
	}
	require.Len(t, b.entries, maxServers)
	require.Equal(t, maxServers, b.recent.Len())
	require.Contains(t, b.entries, fmt.Sprint("server-", 3*maxServers-1))
}

// Whoever waits for an answer about a server gets it, also if the server has been
// forgotten meanwhile.
func TestBook_AnswersAboutAServerThatWasForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan string)
		b := newBook(func(string) (string, error) { return <-answer, nil })
		found := make(chan Answer, 1)
		go func() {
			known, _ := b.Find(t.Context(), "server", time.Time{}, false)
			found <- known
		}()
		synctest.Wait()
		b.mu.Lock()
		for i := range maxServers {
			b.entry(fmt.Sprint("server-", i))
		}
		b.mu.Unlock()
		require.NotContains(t, b.entries, "server")
		answer <- "b"
		require.Equal(t, Answer{Address: "b"}, <-found)
		synctest.Wait()
		require.Zero(t, b.Tasks.Wait(0))
	})
}
