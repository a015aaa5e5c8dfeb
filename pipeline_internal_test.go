package raftwire

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire/internal/tasks"
	"github.com/stretchr/testify/require"
)

// slowLink is a link whose close blocks until it is released, as one that waits for a
// write does.
type slowLink struct {
	answers chan struct{}
	posting chan struct{} // post returns when it is closed; nil means at once
	refused error         // what post returns
	sent    chan struct{} // finish returns when it is closed
	release chan struct{}
	closed  chan struct{}
	once    sync.Once

	deadline time.Time // the last one that was set
}

func newSlowLink() *slowLink {
	sent := make(chan struct{})
	close(sent)
	return &slowLink{answers: make(chan struct{}), sent: sent, release: make(chan struct{}), closed: make(chan struct{})}
}

// pipeline begins a pipeline over l.
func (l *slowLink) pipeline(t *testing.T, window int) *pipeline {
	p := newPipeline("b", l, window, 0, nil, new(tasks.Group))
	require.True(t, p.begin())
	return p
}

func (l *slowLink) post(*AppendEntriesRequest, *atomic.Int64, bool) error {
	if l.posting != nil {
		<-l.posting
	}
	return l.refused
}
func (l *slowLink) flush()                   {}
func (l *slowLink) finish()                  { <-l.sent }
func (l *slowLink) setDeadline(at time.Time) { l.deadline = at }
func (l *slowLink) close(error)              { <-l.release; l.once.Do(func() { close(l.closed) }) }
func (l *slowLink) receive(resp *AppendEntriesResponse, _ answerClock) (int64, error) {
	select {
	case <-l.answers:
		*resp = AppendEntriesResponse{Term: 7}
		return 0, nil
	case <-l.closed:
		return 0, errors.New("closed")
	}
}

// While a pipeline ends, its link may still read requests. Until that is over no call
// returns and no future settles, and an answer changes no response.
func TestPipeline_SettlesNothingWhileItsLinkCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSlowLink()
		p := l.pipeline(t, 2)
		first, err := p.AppendEntries(new(AppendEntriesRequest), new(AppendEntriesResponse))
		require.NoError(t, err)
		returned := make(chan error, 1)
		go func() {
			_, err := p.AppendEntries(new(AppendEntriesRequest), new(AppendEntriesResponse))
			returned <- err
		}()
		synctest.Wait()
		go func() { _ = p.fail(errors.New("lost")) }()
		synctest.Wait()
		l.answers <- struct{}{}
		settled := make(chan error, 1)
		go func() { settled <- first.Error() }()
		synctest.Wait()
		require.Empty(t, returned)
		require.Empty(t, settled)
		close(l.release)
		require.ErrorContains(t, <-returned, "lost")
		require.ErrorContains(t, first.Error(), "lost")
		require.Zero(t, *first.Response())
		require.NoError(t, p.Close())
	})
}

// A request that the link refuses has a future that fails and is delivered.
func TestPipeline_ARefusedPostFailsItsFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSlowLink()
		close(l.release)
		p := l.pipeline(t, 2)
		l.refused = errors.New("lost")
		f, err := p.AppendEntries(new(AppendEntriesRequest), new(AppendEntriesResponse))
		require.NoError(t, err)
		require.ErrorIs(t, f.Error(), l.refused)
		require.Same(t, f, <-p.Consumer())
		require.NoError(t, p.Close())
	})
}

// A sender waits for room before the next one sends, so that later senders cannot fill
// the window before it sees the room.
func TestPipeline_SendersThatComeLaterDoNotTakeTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSlowLink()
		close(l.release)
		p := l.pipeline(t, 2)
		returned := make(chan AppendFuture, 4)
		for i := range 4 { // one returns, one waits for room, and two for their turn
			go func() {
				f, err := p.AppendEntries(&AppendEntriesRequest{Term: uint64(i)}, new(AppendEntriesResponse))
				require.NoError(t, err)
				returned <- f
			}()
			synctest.Wait()
		}
		for i := range 4 {
			require.Len(t, returned, 1)
			require.EqualValues(t, i, (<-returned).Request().Term)
			l.answers <- struct{}{}
			require.EqualValues(t, i, (<-p.Consumer()).Request().Term)
			synctest.Wait()
		}
		require.NoError(t, p.Close())
	})
}

// If room is made while the pipeline ends, the sender that waits for it keeps its
// future, and the consumer gets it.
func TestPipeline_RoomThatIsMadeWhileItEndsCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSlowLink()
		p := l.pipeline(t, 2)
		first, err := p.AppendEntries(new(AppendEntriesRequest), new(AppendEntriesResponse))
		require.NoError(t, err)
		returned := make(chan AppendFuture, 1)
		go func() {
			f, err := p.AppendEntries(new(AppendEntriesRequest), new(AppendEntriesResponse))
			require.NoError(t, err)
			returned <- f
		}()
		l.answers <- struct{}{}
		synctest.Wait()
		go func() { _ = p.fail(errors.New("lost")) }()
		synctest.Wait()
		require.Same(t, first, <-p.Consumer())
		require.NoError(t, first.Error())
		synctest.Wait()
		require.Empty(t, returned)
		close(l.release)
		f := <-returned
		require.ErrorContains(t, f.Error(), "lost")
		require.Same(t, f, <-p.Consumer())
		require.NoError(t, p.Close())
	})
}

// A sender that waits for room gets the error and no future.
func TestPipeline_ASenderThatWaitsForRoomGetsTheError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSlowLink()
		close(l.release)
		p := l.pipeline(t, 2)
		errs := make(chan error, 2)
		for range 2 { // the second waits for room
			go func() {
				_, err := p.AppendEntries(new(AppendEntriesRequest), new(AppendEntriesResponse))
				errs <- err
			}()
			synctest.Wait()
			l.answers <- struct{}{}
		}
		require.NoError(t, <-errs)
		synctest.Wait()
		require.Empty(t, errs, "the answers are not consumed")
		_ = p.fail(errors.New("lost"))
		require.ErrorContains(t, <-errs, "lost")
		_, err := p.AppendEntries(new(AppendEntriesRequest), new(AppendEntriesResponse))
		require.ErrorContains(t, err, "lost")
		require.NoError(t, (<-p.Consumer()).Error())
		synctest.Wait()
		select {
		case f := <-p.Consumer():
			t.Errorf("a future that nobody has: %+v", f)
		default:
		}
		require.NoError(t, p.Close())
	})
}

// Close does not give a request back while its sender still posts it.
func TestPipeline_CloseWaitsForASenderThatPosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSlowLink()
		close(l.release)
		l.posting = make(chan struct{})
		p := l.pipeline(t, 2)
		futures := make(chan AppendFuture, 1)
		go func() {
			f, err := p.AppendEntries(new(AppendEntriesRequest), new(AppendEntriesResponse))
			require.NoError(t, err)
			futures <- f
		}()
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- p.Close() }()
		synctest.Wait()
		require.Empty(t, closed)
		require.Equal(t, 1, p.inFlight, "it has settled")
		close(l.posting)
		require.NoError(t, <-closed)
		require.Equal(t, ErrPipelineShutdown, (<-futures).Error())
		l.answers <- struct{}{}
	})
}

// Close sends the rest. An answer that comes meanwhile does not end the link: it waits
// a while longer for the answers to the rest.
func TestPipeline_CloseAwaitsTheAnswersToTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSlowLink()
		close(l.release)
		l.sent = make(chan struct{})
		p := l.pipeline(t, 3)
		for range 2 {
			_, err := p.AppendEntries(new(AppendEntriesRequest), new(AppendEntriesResponse))
			require.NoError(t, err)
		}
		go func() { _ = p.Close() }()
		synctest.Wait()
		l.answers <- struct{}{}
		synctest.Wait()
		require.False(t, tasks.IsClosed(l.closed))
		close(l.sent)
		synctest.Wait()
		require.False(t, tasks.IsClosed(l.closed))
		require.Equal(t, time.Now().Add(defaultLinger), l.deadline)
		l.answers <- struct{}{}
		synctest.Wait()
		require.True(t, tasks.IsClosed(l.closed))
	})
}

// A consumer that takes what has settled as soon as the pipeline ends makes no room
// for the sender that was waiting: it gets the error, since nobody gets its future.
func TestPipeline_ASenderThatWaitsForRoomGetsTheErrorThoughTheConsumerIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSlowLink()
		close(l.release)
		p := l.pipeline(t, 2)
		delivered := make(chan AppendFuture, 2)
		go func() {
			for {
				select {
				case f := <-p.Consumer():
					delivered <- f
				case <-p.done:
					return
				}
			}
		}()
		errs := make(chan error, 2)
		for range 2 { // the second waits for room
			go func() {
				_, err := p.AppendEntries(new(AppendEntriesRequest), new(AppendEntriesResponse))
				errs <- err
			}()
			synctest.Wait()
		}
		require.NoError(t, <-errs)
		_ = p.fail(errors.New("lost"))
		require.ErrorContains(t, <-errs, "lost")
		synctest.Wait()
		require.Len(t, delivered, 1)
		require.NoError(t, p.Close())
	})
}

// Close does not wait for a sender that is in a hook: the link has ended by then, and
// refuses the request.
func TestPipeline_CloseDoesNotWaitForAHookThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSlowLink()
		close(l.release)
		p := l.pipeline(t, 2)
		blocked := make(chan struct{})
		p.callBegun = func(*CallEvent) { <-blocked }
		returned := make(chan AppendFuture, 1)
		go func() {
			f, err := p.AppendEntries(new(AppendEntriesRequest), new(AppendEntriesResponse))
			require.NoError(t, err)
			returned <- f
		}()
		synctest.Wait()
		began := time.Now()
		require.NoError(t, p.Close())
		require.LessOrEqual(t, time.Since(began), finishWithin)
		l.refused = errors.New("closed")
		close(blocked)
		require.Equal(t, ErrPipelineShutdown, (<-returned).Error())
	})
}

// A request whose future has settled is the caller's again: the end of a link in memory
// waits for a post that copies one.
func TestInmemPipeline_EndsWhenNoRequestIsCopied(t *testing.T) {
	_, a := NewInmemTransport("a")
	_, b := NewInmemTransport("b")
	a.Connect("b", b)
	p, err := a.AppendEntriesPipeline("b", "b")
	require.NoError(t, err)
	l := p.(*pipeline).link.(*pipeLink)
	l.posting.Lock()
	closed := make(chan struct{})
	go func() {
		l.close(errPeerClosed)
		close(closed)
	}()
	<-l.pipe.done
	for range 1000 {
		runtime.Gosched()
	}
	require.False(t, tasks.IsClosed(closed))
	l.posting.Unlock()
	<-closed
	_, err = l.clone(new(AppendEntriesRequest))
	require.ErrorIs(t, err, errPeerClosed)
	require.NoError(t, p.Close())
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
}
