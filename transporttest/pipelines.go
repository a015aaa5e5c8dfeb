package transporttest

import (
	"context"
	"errors"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

// pipelineCases are about AppendEntriesPipeline.
var pipelineCases = []testCase{
	{"a pipeline carries every field of requests and answers", Pipelines, pipelinedFieldsArrive},
	{"every future settles exactly once and in the order of requests", Pipelines, futuresInOrder},
	{"a future returns the request and response that it was made with, and when", Pipelines, futureIdentity},
	{"futures settle although nobody reads Consumer", Pipelines, futuresSettleUnread},
	{"AppendEntries returns within the timeout although nobody reads Consumer", Pipelines, noWedge},
	{"AppendEntries returns within the timeout although nobody answers", Pipelines, noAnswers},
	{"a pipelined request that nobody answers fails at its deadline", Pipelines, futureDeadline},
	{"an idle pipeline stays open for longer than the timeout", Pipelines, idlePipeline},
	{"an error of the peer fails its own future and the pipeline goes on", Pipelines, pipelinedRemoteError},
	{"a nil answer settles a future with the zero response", Pipelines, pipelinedNilAnswer},
	{"an answer of the wrong type fails a future with the zero response", Pipelines, pipelinedWrongAnswer},
	{"Close settles futures in flight with ErrPipelineShutdown and zero responses", Pipelines, closeSettlesFutures},
	{"a pipeline that is closed delivers what it has sent", Pipelines, closeDelivers},
	{"Close ends an AppendEntries that waits for a place", Pipelines | Windows, closeEndsAppend},
	{"a closed pipeline returns ErrPipelineShutdown, and may be closed again", Pipelines, closedPipeline},
	{"the Consumer of a pipeline is never closed", Pipelines, consumerStaysOpen},
	{"arguments and responses are the caller's again when their future has failed", Pipelines, ownershipAfterFailure},
	{"what the receiver does to a pipelined request does not reach the sender", Pipelines, receiverMayChangePipelined},
	{"what the sender does to settled arguments does not reach the receiver", Pipelines, senderMayChangePipelined},
	{"futures of a peer that dies settle with errors, in order, through Consumer", Pipelines | Close, peerDies},
	{"two pipelines to one peer do not mix their answers", Pipelines, twoPipelines},
	{"calls work beside a pipeline with requests in flight", Pipelines, callsBesidePipeline},
}

// pipe is a pipeline from a pair's sender to its receiver.
type pipe struct {
	*pair
	line raftwire.AppendPipeline
}

func (p *pair) pipeline() *pipe {
	p.Helper()
	line, err := p.sender.AppendEntriesPipeline(peerID, p.to())
	require.NoError(p, err)
	p.Cleanup(func() { _ = line.Close() })
	return &pipe{pair: p, line: line}
}

// sending is an AppendEntries under way.
type sending struct {
	*call
	future raftwire.AppendFuture // set when the call has returned
}

// begin sends a request with a response that holds something, which has to go.
func (p *pipe) begin(args *raftwire.AppendEntriesRequest) *sending {
	s := new(sending)
	s.call = p.start(func() (err error) {
		s.future, err = p.line.AppendEntries(args, filled(new(raftwire.AppendEntriesResponse)))
		return err
	})
	return s
}

// send is begin for a request that does not have to wait.
func (p *pipe) send(args *raftwire.AppendEntriesRequest) raftwire.AppendFuture {
	p.Helper()
	s := p.begin(args)
	require.NoError(p, s.wait())
	require.NotNil(p, s.future)
	return s.future
}

// sendNumbered sends requests first to last.
func (p *pipe) sendNumbered(first, last int) []raftwire.AppendFuture {
	p.Helper()
	var futures []raftwire.AppendFuture
	for number := first; number <= last; number++ {
		futures = append(futures, p.send(numbered(number)))
	}
	return futures
}

// next receives a settled future.
func (p *pipe) next() raftwire.AppendFuture {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), patience)
	defer cancel()
	select {
	case future, open := <-p.line.Consumer():
		require.True(p, open, "the pipeline's Consumer was closed")
		return future
	case <-ctx.Done():
		require.Fail(p, "no future was delivered")
		return nil
	}
}

// settled returns a future's error once it has one.
func (t *tester) settled(future raftwire.AppendFuture) error {
	t.Helper()
	return t.start(future.Error).wait()
}

// requireAnswered checks a future that was answered by echo.
func (t *tester) requireAnswered(number int, future raftwire.AppendFuture) {
	t.Helper()
	require.NoError(t, t.settled(future))
	require.Equal(t, uint64(number), future.Request().PrevLogEntry)
	require.Equal(t, &raftwire.AppendEntriesResponse{LastLog: uint64(number), Success: true}, future.Response())
}

// requireFailed checks that a future has an error and no response.
func (t *tester) requireFailed(future raftwire.AppendFuture) error {
	t.Helper()
	err := t.settled(future)
	require.Error(t, err)
	require.Equal(t, &raftwire.AppendEntriesResponse{}, future.Response())
	return err
}

func pipelinedFieldsArrive(t *tester) {
	p := t.pair(Options{Timeout: generous}).pipeline()
	args := filled(new(raftwire.AppendEntriesRequest))
	future := p.send(args)
	rpc := p.take()
	p.requireMessage(filled(new(raftwire.AppendEntriesRequest)), rpc.Command, "the request as received")
	rpc.Respond(filled(new(raftwire.AppendEntriesResponse)), nil)
	require.NoError(t, t.settled(future))
	require.Equal(t, filled(new(raftwire.AppendEntriesResponse)), future.Response())
	p.requireMessage(filled(new(raftwire.AppendEntriesRequest)), args, "the request as sent")
}

func futuresInOrder(t *tester) {
	const requests = 500
	p := t.pair(Options{Timeout: generous, Window: 16}).pipeline()
	next := uint64(1)
	p.serve(func(rpc raftwire.RPC) {
		assert.Equal(t, next, rpc.Command.(*raftwire.AppendEntriesRequest).PrevLogEntry)
		next++
		echo(rpc)
	})
	sent := make(chan raftwire.AppendFuture, requests)
	sender := p.start(func() error {
		for number := 1; number <= requests; number++ {
			future, err := p.line.AppendEntries(numbered(number), new(raftwire.AppendEntriesResponse))
			if err != nil {
				return err
			}
			sent <- future
		}
		return nil
	})
	for number := 1; number <= requests; number++ {
		future := p.next()
		t.requireAnswered(number, future)
		require.True(t, future == <-sent, "Consumer delivered another future than AppendEntries returned")
	}
	require.NoError(t, sender.wait())
	p.requireNothingDelivered()
}

// requireNothingDelivered checks that no future waits, and that Consumer is open.
func (p *pipe) requireNothingDelivered() {
	p.Helper()
	p.settle()
	select {
	case future, open := <-p.line.Consumer():
		require.True(p, open, "the pipeline's Consumer was closed")
		require.Failf(p, "a future was delivered", "%+v", future.Request())
	default:
	}
}

func futureIdentity(t *tester) {
	p := t.pair(Options{Timeout: generous}).pipeline()
	p.serve(echo)
	args, resp := numbered(1), new(raftwire.AppendEntriesResponse)
	before := time.Now()
	future, err := p.line.AppendEntries(args, resp)
	after := time.Now()
	require.NoError(t, err)
	require.Same(t, args, future.Request())
	require.Same(t, resp, future.Response())
	require.False(t, future.Start().Before(before))
	require.False(t, future.Start().After(after))
	require.True(t, p.next() == future)
	for range 3 {
		t.requireAnswered(1, future)
	}
}

func futuresSettleUnread(t *tester) {
	p := t.pair(Options{Timeout: generous}).pipeline()
	p.serve(echo)
	first := p.send(numbered(1))
	t.requireAnswered(1, first)
	second := p.begin(numbered(2))
	require.True(t, p.next() == first)
	require.NoError(t, second.wait())
	t.requireAnswered(2, second.future)
}

// noWedge is what a Raft core does after an unsuccessful append: it stops
// reading, and sends once more.
func noWedge(t *tester) {
	for _, window := range []int{2, 10} {
		p := t.pair(Options{Timeout: short, Window: window}).pipeline()
		p.serve(answerWith(&raftwire.AppendEntriesResponse{}, nil))
		futures := []raftwire.AppendFuture{p.send(numbered(1))}
		p.next()
		futures, err := p.sendUntilError(futures)
		t.requireTimeout(err)
		require.NoError(t, t.start(p.line.Close).wait())
		for _, future := range futures {
			_ = t.settled(future)
		}
	}
}

func noAnswers(t *tester) {
	p := t.pair(Options{Timeout: short}).pipeline()
	futures, err := p.sendUntilError(nil)
	require.Error(t, err)
	require.NoError(t, t.start(p.line.Close).wait())
	for _, future := range futures {
		t.requireFailed(future)
	}
}

// sendUntilError sends requests until one fails, which must be soon, and
// checks that none takes longer than the timeout.
func (p *pipe) sendUntilError(futures []raftwire.AppendFuture) ([]raftwire.AppendFuture, error) {
	p.Helper()
	for range 100 {
		s := p.begin(numbered(len(futures) + 1))
		err := s.wait()
		p.requireShort(s.took)
		if err != nil {
			return futures, err
		}
		futures = append(futures, s.future)
	}
	require.Fail(p, "100 requests were sent into a full window")
	return nil, nil
}

func (t *tester) requireShort(took time.Duration) {
	t.Helper()
	limit := short
	if !t.maker.FakeTime {
		limit += slack
	}
	require.LessOrEqual(t, took, limit)
}

func futureDeadline(t *tester) {
	p := t.pair(Options{Timeout: short}).pipeline()
	future := p.send(numbered(1))
	waiting := t.start(future.Error)
	p.take()
	t.requireTimeout(waiting.wait())
	p.requireShort(waiting.took)
	t.requireFailed(future)
}

func idlePipeline(t *tester) {
	p := t.pair(Options{Timeout: short}).pipeline()
	p.serve(echo)
	for number := 1; number <= 2; number++ {
		future := p.send(numbered(number))
		t.requireAnswered(number, future)
		require.True(t, p.next() == future)
		t.pause(3 * short / 2)
	}
}

func pipelinedRemoteError(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 4}).pipeline()
	futures := p.sendNumbered(1, 3)
	echo(p.take())
	rpc := p.take()
	rpc.Respond(nil, errUnexpectedCommand)
	echo(p.take())
	t.requireAnswered(1, futures[0])
	p.requireRemote("AppendEntries", errUnexpectedCommand.Error(), t.requireFailed(futures[1]))
	t.requireAnswered(3, futures[2])
	for _, future := range futures {
		require.True(t, p.next() == future)
	}
}

func pipelinedNilAnswer(t *tester) {
	p := t.pair(Options{Timeout: generous}).pipeline()
	future := p.send(numbered(1))
	rpc := p.take()
	rpc.Respond(nil, nil)
	require.NoError(t, t.settled(future))
	require.Equal(t, &raftwire.AppendEntriesResponse{}, future.Response())
}

func pipelinedWrongAnswer(t *tester) {
	for _, wrong := range []any{"a string", 7, struct{}{}, &raftwire.Log{}, &raftwire.RequestVoteRequest{Term: 1}} {
		p := t.pair(Options{Timeout: generous}).pipeline()
		future := p.send(numbered(1))
		rpc := p.take()
		rpc.Respond(wrong, nil)
		t.requireFailed(future)
		p.requireUsable()
	}
}

func closeSettlesFutures(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 10}).pipeline()
	futures := p.sendNumbered(1, 9)
	p.take()
	begin := time.Now()
	require.NoError(t, t.start(p.line.Close).wait())
	for _, future := range futures {
		t.requireSame(raftwire.ErrPipelineShutdown, t.requireFailed(future))
	}
	t.requireWithin(promptly, begin)
}

// closeDelivers: that a server is removed from its cluster it learns from the last
// request before Close.
func closeDelivers(t *tester) {
	for _, window := range []int{2, 10} {
		p := t.pair(Options{Timeout: generous, Window: window})
		for requests := range window {
			line := p.pipeline()
			line.sendNumbered(1, requests)
			require.NoError(t, t.start(line.line.Close).wait())
			for number := 1; number <= requests; number++ {
				rpc := p.take()
				require.Equal(t, uint64(number), rpc.Command.(*raftwire.AppendEntriesRequest).PrevLogEntry)
				succeed(rpc)
			}
		}
	}
}

func closeEndsAppend(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 2}).pipeline()
	p.send(numbered(1))
	waiting := p.begin(numbered(2))
	waiting.requirePending()
	begin := time.Now()
	require.NoError(t, p.line.Close())
	err := waiting.wait()
	t.requireWithin(promptly, begin)
	if err == nil { // it was written, so a future is as good
		err = t.requireFailed(waiting.future)
	}
	t.requireSame(raftwire.ErrPipelineShutdown, err)
}

func closedPipeline(t *tester) {
	p := t.pair(Options{Timeout: generous}).pipeline()
	p.serve(echo)
	p.send(numbered(1))
	p.next()
	for range 3 {
		require.NoError(t, t.start(p.line.Close).wait())
		late := p.begin(numbered(2))
		t.requireSame(raftwire.ErrPipelineShutdown, late.wait())
		require.Nil(t, late.future)
	}
}

func consumerStaysOpen(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 10}).pipeline()
	consumer := p.line.Consumer()
	p.sendNumbered(1, 5)
	p.take()
	require.NoError(t, p.line.Close())
	p.settle()
	require.True(t, consumer == p.line.Consumer())
	for {
		select {
		case future, open := <-consumer:
			require.True(t, open, "the pipeline's Consumer was closed")
			t.requireFailed(future)
		default:
			return
		}
	}
}

// ownershipAfterFailure needs the race detector: a pipeline must not read
// arguments that it has given back, not even in the middle of a write.
func ownershipAfterFailure(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 64}).pipeline()
	var futures []raftwire.AppendFuture
	sender := p.start(func() error {
		for {
			args := numbered(len(futures) + 1)
			args.Entries = []*raftwire.Log{{Index: 1, Data: make([]byte, 64<<10)}, {Index: 2, Data: make([]byte, 100)}}
			future, err := p.line.AppendEntries(args, new(raftwire.AppendEntriesResponse))
			if err != nil {
				scribble(args)
				return err
			}
			futures = append(futures, future)
		}
	})
	sender.requirePending()
	require.NoError(t, p.line.Close())
	require.Error(t, sender.wait())
	require.NotEmpty(t, futures)
	for _, future := range futures {
		t.requireFailed(future)
		scribble(future.Request())
		scribble(future.Response())
	}
}

func receiverMayChangePipelined(t *tester) {
	p := t.pair(Options{Timeout: generous}).pipeline()
	args := filled(new(raftwire.AppendEntriesRequest))
	future := p.send(args)
	rpc := p.take()
	scribble(rpc.Command)
	succeed(rpc)
	require.NoError(t, t.settled(future))
	p.requireMessage(filled(new(raftwire.AppendEntriesRequest)), args, "the request as sent")
}

func senderMayChangePipelined(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 3}).pipeline()
	answered := p.send(filled(new(raftwire.AppendEntriesRequest)))
	first := p.take()
	succeed(first)
	require.NoError(t, t.settled(answered))
	scribble(answered.Request())

	failed := p.send(filled(new(raftwire.AppendEntriesRequest)))
	second := p.take()
	require.NoError(t, p.line.Close())
	t.requireFailed(failed)
	scribble(failed.Request())

	for _, rpc := range []raftwire.RPC{first, second} {
		p.requireMessage(filled(new(raftwire.AppendEntriesRequest)), rpc.Command, "the request as received")
	}
}

func peerDies(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 10}).pipeline()
	futures := p.sendNumbered(1, 9)
	echo(p.take())
	t.requireAnswered(1, futures[0])
	begin := time.Now()
	t.closeTransport(p.receiver)
	for _, future := range futures[1:] {
		err := t.requireFailed(future)
		require.False(t, errors.Is(err, raftwire.ErrPipelineShutdown), "the pipeline was not closed")
	}
	t.requireWithin(promptly, begin)
	for _, future := range futures {
		require.True(t, p.next() == future)
	}
	p.requireNothingDelivered()
	_, err := p.sendUntilError(nil)
	require.Error(t, err)
}

func twoPipelines(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 8})
	p.serve(echo)
	one, other := p.pipeline(), p.pipeline()
	ones, others := one.sendNumbered(1, 5), other.sendNumbered(101, 105)
	for i := range ones {
		t.requireAnswered(1+i, ones[i])
		t.requireAnswered(101+i, others[i])
	}
	require.NoError(t, one.line.Close())
	require.True(t, other.next() == others[0])
	t.requireAnswered(106, other.send(numbered(106)))
}

func callsBesidePipeline(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 4}).pipeline()
	future := p.send(numbered(1))
	first := p.take()
	p.requireUsable()
	echo(first)
	t.requireAnswered(1, future)
}

// windowCases are about how many requests a pipeline has in flight.
var windowCases = []testCase{
	{"with a window of N, N-1 sends return at once and send N is written and waits until an answer was consumed", Pipelines | Windows, windowIsExact},
	{"a window of zero is a window of two", Pipelines | Windows, windowOfZero},
	{"a window of one, or less than zero, is no pipelining", Pipelines | Windows, windowOfOne},
	{"a window of 130 holds a hundred answers that nobody has consumed", Pipelines | Windows, unconsumedAnswers},
}

func windowIsExact(t *tester) {
	for _, window := range []int{2, 3, 16} {
		p := t.pair(Options{Timeout: generous, Window: window}).pipeline()
		p.requireWindow(window)
	}
}

func windowOfZero(t *tester) {
	t.pair(Options{Timeout: generous, Window: 0}).pipeline().requireWindow(2)
}

func (p *pipe) requireWindow(window int) {
	p.Helper()
	futures := p.sendNumbered(1, window-1)
	last := p.begin(numbered(window))
	last.requirePending()
	for number := 1; number < window; number++ {
		echo(p.take())
		p.requireAnswered(number, futures[number-1])
	}
	last.requirePending()
	echo(p.take()) // it was written
	last.requirePending()
	require.True(p, p.next() == futures[0])
	require.NoError(p, last.wait())
	p.requireAnswered(window, last.future)
}

func windowOfOne(t *tester) {
	for _, window := range []int{1, -1} {
		p := t.pair(Options{Timeout: generous, Window: window})
		line, err := p.sender.AppendEntriesPipeline(peerID, p.to())
		t.requireSame(raftwire.ErrPipelineReplicationNotSupported, err)
		require.Nil(t, line)
	}
}

func unconsumedAnswers(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 130}).pipeline()
	p.serve(echo)
	futures := p.sendNumbered(1, 100)
	for i, future := range futures {
		t.requireAnswered(i+1, future)
	}
	for _, future := range futures {
		require.True(t, p.next() == future)
	}
}
