package raftwire

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire/internal/tasks"
	"github.com/stretchr/testify/require"
)

// slowToEnd is a layer whose dials hang, and end late.
type slowToEnd struct {
	net.Listener
	release chan struct{}

	mu    sync.Mutex // protects following
	begun []ServerAddress
}

func (s *slowToEnd) Dial(ServerAddress, time.Duration) (net.Conn, error) { panic("not called") }

func (s *slowToEnd) DialContext(ctx context.Context, addr ServerAddress) (net.Conn, error) {
	s.mu.Lock()
	s.begun = append(s.begun, addr)
	s.mu.Unlock()
	<-ctx.Done()
	<-s.release
	return nil, ctx.Err()
}

// A call that waits for the place of a dial gets the first that there is, also if
// that is there because another call has joined a dial that was left to itself.
func TestDial_BeginsWhenThereIsAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowToEnd{release: make(chan struct{})}
		life, end := context.WithCancel(t.Context())
		p := &pool{dialer: dialer{
			stream: slow, canCancel: true, timeout: time.Hour, life: life, done: life.Done(),
			doubt: func(ServerID) {}, tasks: new(tasks.Group), hooks: new(Hooks),
		}}
		call := func(addr ServerAddress, limit time.Duration) {
			_, _, err := p.await(destination{ctx: t.Context(), addr: addr, deadline: time.Now().Add(limit)}, time.Time{}, false)
			require.Error(t, err)
		}
		for i := range maxDials {
			call(ServerAddress(fmt.Sprint("peer-", i)), time.Millisecond)
		}
		go call("another", time.Minute) // ends the oldest, and waits for that
		synctest.Wait()
		require.NotContains(t, slow.begun, ServerAddress("another"))
		go call("peer-9", time.Minute) // joins
		synctest.Wait()
		close(slow.release)
		synctest.Wait()
		require.Contains(t, slow.begun, ServerAddress("another"))
		end()
	})
}
