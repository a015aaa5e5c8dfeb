package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// operation is what a client did to a key. Its times count from the beginning
// of the history.
type operation struct {
	client     string
	key        string
	value      string // that it wrote, as nobody else does; empty for a read
	begin, end time.Duration
	result     string // the value of the key after it
	unclear    bool   // it failed without a word on whether it was done, or will be
}

func (o operation) String() string {
	text := fmt.Sprintf("%v to %v: %s reads %s", o.begin, o.end, o.client, o.key)
	if o.isWrite() {
		text = fmt.Sprintf("%v to %v: %s writes %s to %s", o.begin, o.end, o.client, o.value, o.key)
	}
	if o.unclear {
		return text + ", and does not know whether it was done"
	}
	return fmt.Sprintf("%s, which is then %q", text, o.result)
}

func (o operation) isWrite() bool { return o.value != "" }

// history is what all clients did, but for what certainly had no effect and
// told nothing: reads that failed, writes that were refused.
type history struct {
	start time.Time

	lock    sync.Mutex // protects following
	all     []operation
	written time.Duration // when the last write that succeeded began
}

func newHistory() *history { return &history{start: time.Now()} }

func (h *history) now() time.Duration { return time.Since(h.start) }

func (h *history) add(o operation) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.all = append(h.all, o)
	if o.isWrite() && !o.unclear {
		h.written = max(h.written, o.begin)
	}
}

// writtenSince reports whether a write has succeeded that began after that.
func (h *history) writtenSince(begin time.Duration) bool {
	h.lock.Lock()
	defer h.lock.Unlock()
	return h.written >= begin
}

// operations returns them in the order in which they began.
func (h *history) operations() []operation {
	h.lock.Lock()
	defer h.lock.Unlock()
	return slices.SortedStableFunc(slices.Values(h.all), func(a, b operation) int { return cmp.Compare(a.begin, b.begin) })
}

// succeeded returns the operations that have a result.
func (h *history) succeeded() []operation {
	return slices.DeleteFunc(h.operations(), func(o operation) bool { return o.unclear })
}

func (h *history) String() string {
	var text strings.Builder
	for _, o := range h.operations() {
		fmt.Fprintln(&text, o)
	}
	return text.String()
}

// semantics is what a write does to a value, and what a value tells of writes.
type semantics struct {
	write func(old, value string) string
	// after returns what the value was after the write of value, and false if
	// seen does not show that there was one.
	after func(seen, value string) (string, bool)
}

// Two ways of writing: in the place of the old value, and behind it. With the
// second, a value tells every write that made it, so that one which is lost,
// done twice or out of turn is seen by whoever reads next.
var (
	replacing = semantics{
		write: func(_, value string) string { return value },
		after: func(seen, value string) (string, bool) { return value, seen == value },
	}
	appending = semantics{
		write: func(old, value string) string { return old + value + "," },
		after: func(seen, value string) (string, bool) {
			before, _, found := strings.Cut(","+seen, ","+value+",")
			return strings.TrimPrefix(before+","+value+",", ","), found
		},
	}
)

// checkerPatience is only how long a checker may think; milliseconds are usual.
const checkerPatience = time.Minute

// check returns what is wrong with the history: whether a single copy of each
// key, to which everything happens at one moment between its beginning and its
// end, could have answered like that.
func (h *history) check(s semantics) error {
	switch porcupine.CheckOperationsTimeout(s.model(), forPorcupine(s.clarify(h.operations())), checkerPatience) {
	case porcupine.Ok:
		return nil
	case porcupine.Illegal:
		return errNotLinearizable
	default:
		return fmt.Errorf("porcupine has not found out in %v whether the history is linearizable", checkerPatience)
	}
}

var errNotLinearizable = errors.New("the history is not linearizable")

// clarify returns the same without what is unclear, of which there would be as
// many ways as orders. A write that nobody saw needs not have happened. One
// that was seen had happened when the first to see it ended, who also saw what
// the value was then.
func (s semantics) clarify(all []operation) (clear []operation) {
	for _, o := range all {
		if o.unclear {
			o = s.firstSeen(o, all)
		}
		if !o.unclear {
			clear = append(clear, o)
		}
	}
	return clear
}

func (s semantics) firstSeen(write operation, all []operation) operation {
	for _, o := range all {
		if o.unclear || o.key != write.key || !write.unclear && o.end >= write.end {
			continue
		}
		if result, seen := s.after(o.result, write.value); seen {
			write.result, write.end, write.unclear = result, max(o.end, write.begin), false
		}
	}
	return write
}

func forPorcupine(all []operation) (converted []porcupine.Operation) {
	for _, o := range all {
		converted = append(converted, porcupine.Operation{Input: o, Call: int64(o.begin), Return: int64(o.end)})
	}
	return converted
}

// model is that of one key; keys have nothing to do with each other.
func (s semantics) model() porcupine.Model {
	return porcupine.Model{
		Partition: byKey,
		Init:      func() any { return "" },
		Step: func(state, input, _ any) (bool, any) {
			value, o := state.(string), input.(operation)
			if o.isWrite() {
				value = s.write(value, o.value)
			}
			return o.result == value, value
		},
	}
}

func byKey(all []porcupine.Operation) [][]porcupine.Operation {
	parts := map[string][]porcupine.Operation{}
	for _, o := range all {
		key := o.Input.(operation).key
		parts[key] = append(parts[key], o)
	}
	return slices.Collect(maps.Values(parts))
}
