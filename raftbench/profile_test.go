package main

import (
	"bytes"
	"testing"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
)

// A stack is sorted by the innermost function that says what is done.
func TestStacksAreSortedByWork(t *testing.T) {
	const root = "github.com/raftwire/raftwire"
	for _, c := range []struct {
		work  Work
		stack []string // from the inside out
	}{
		{workCalls, []string{"internal/runtime/syscall/linux.Syscall6", "syscall.RawSyscall6", "net.(*conn).Write", root + ".(*conn).write"}},
		{workSchedule, []string{"internal/runtime/syscall/linux.Syscall6", "internal/runtime/syscall/linux.EpollWait", "runtime.netpoll", "runtime.gcStart"}},
		{workSchedule, []string{"runtime.lock2", "runtime.chansend", "runtime.selectnbsend", root + ".consumerDispatcher.Dispatch"}},
		{workSchedule, []string{"runtime.usleep", "runtime.sysmon"}},
		{workSchedule, []string{"runtime.unknown"}},
		{workMemory, []string{"runtime.nextFreeFast", "runtime.mallocgc", "runtime.newobject", root + "/internal/msgpack.(*Reader).take"}},
		{workMemory, []string{"runtime.scanObject", "runtime.gcDrain", "runtime.gcBgMarkWorker"}},
		{workCodec, []string{"memeqbody", "runtime.memequal", root + "/internal/msgpack.ParseLiteral"}},
		{workCodec, []string{"/codec.go", root + ".(*session).serve"}},
		{workCodec, []string{"github.com/hashicorp/go-msgpack/v2/codec.(*Decoder).Decode", "github.com/hashicorp/raft.decode"}},
		{workElse, []string{"runtime.nanotime", "time.Now", root + ".(*pipeline).AppendEntries", "main.(*loop).send"}},
		{workElse, []string{"github.com/hashicorp/raft.(*netPipeline).AppendEntries"}},
		{workEnds, []string{"bytes.Equal", "main.(*content).check"}},
		{workEnds, []string{root + "/raftbench.(*content).check"}},
	} {
		sample := new(profile.Sample)
		for _, name := range c.stack {
			f := &profile.Function{Name: name}
			if name == "/codec.go" {
				f = &profile.Function{Name: root + ".readLog", Filename: "/src/raftwire/codec.go"}
			}
			sample.Location = append(sample.Location, &profile.Location{Line: []profile.Line{{Function: f}}})
		}
		require.Equal(t, c.work, workOf(sample), c.stack)
	}
}

var sink byte

func TestProfiledSeesWhatIsSpent(t *testing.T) {
	spent, err := profiled(func() error {
		sum := byte(0) // which the race detector does not watch
		for i := range 400_000_000 {
			sum += byte(i)
		}
		sink = sum
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, spent[workEnds], spent.total()/2)

	_, err = profiled(func() error { return errStuck })
	require.ErrorIs(t, err, errStuck)
}

func TestTheTableSaysWhereTimeGoes(t *testing.T) {
	result := &Result{Workload: tinyWorkload, Window: 2, Rival: nameRaftwire, Rounds: []Figures{
		{CPUSecsPerMRPC: 2, Spent: Spent{workCalls: 30, workCodec: 10}},
		{CPUSecsPerMRPC: 2, Spent: Spent{workCalls: 30, workMemory: 30}},
	}}
	r := &Report{Results: []*Result{result, {Workload: tinyWorkload, Window: 2, Rival: nameHashicorp, Rounds: []Figures{{}}}}}
	r.summarize()
	var out bytes.Buffer
	writeSpent(&out, r)
	require.Regexp(t, `2 +raftwire +2\.00 +60% +0% +30% +10% +0% +0%\n`, out.String())
	require.NotContains(t, out.String(), nameHashicorp, "it was not profiled")

	out.Reset()
	writeSpent(&out, &Report{Results: r.Results[1:]})
	require.Empty(t, out.String())
}
