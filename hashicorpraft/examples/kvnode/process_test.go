package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/stretchr/testify/require"
)

// process is a node that runs, or ran, as a process of its own.
type process struct {
	t          *testing.T
	id         raft.ServerID
	raft, http string
	args       []string
	transport  string       // from the next start on
	files      testca.Files // that -tls names, if it does
	log        *os.File

	command *exec.Cmd     // of the last start
	ended   chan struct{} // closed when command has
}

func newProcess(t *testing.T, id raft.ServerID, transport string) *process {
	log, err := os.Create(filepath.Join(t.TempDir(), string(id)+".log"))
	require.NoError(t, err)
	p := &process{t: t, id: id, raft: freeAddress(t), http: freeAddress(t), transport: transport, log: log}
	t.Cleanup(p.cleanUp)
	return p
}

// freeAddress finds a port that a process can have again after a restart: none
// of those that systems give to connections, which is why it is not port 0.
func freeAddress(t *testing.T) string {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		if listener, err := net.Listen("tcp", address); err == nil {
			require.NoError(t, listener.Close())
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// start returns when the process says that it listens.
func (p *process) start() {
	p.t.Helper()
	p.command = exec.Command(os.Args[0], append(p.args, "-transport", p.transport)...)
	p.command.Env = append(os.Environ(), asNode+"=1", "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	p.command.Stderr = p.log
	_, err := p.command.StdinPipe() // ends the process if the test ends without it
	require.NoError(p.t, err)
	out, err := p.command.StdoutPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, p.command.Start())
	said, err := bufio.NewReader(out).ReadString('\n')
	p.ended = make(chan struct{})
	go func() {
		_ = p.command.Wait()
		close(p.ended)
	}()
	require.NoError(p.t, err, "%s did not start", p.id)
	require.Contains(p.t, said, p.transport)
}

func (p *process) running() bool {
	if p.ended == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the process as a power cut would, but for what the disk has not got.
func (p *process) kill() {
	p.t.Helper()
	require.NoError(p.t, p.command.Process.Kill())
	<-p.ended
	require.Equal(p.t, -1, p.command.ProcessState.ExitCode(), "%s had ended before it was killed", p.id)
}

// terminate ends the process as an operator does, and it has to agree.
func (p *process) terminate() {
	p.t.Helper()
	require.NoError(p.t, p.command.Process.Signal(syscall.SIGTERM))
	<-p.ended
	require.Zero(p.t, p.command.ProcessState.ExitCode(), "%s: %v", p.id, p.command.ProcessState)
}

// status asks the process for its status, which is empty if it does not answer.
func (p *process) status() (s nodeStatus) {
	answer, err := http.Get("http://" + p.http + "/status")
	if err != nil {
		return s
	}
	defer answer.Body.Close()
	require.NoError(p.t, json.NewDecoder(answer.Body).Decode(&s))
	return s
}

type nodeStatus struct{ status }

// index returns one of Raft's numbers.
func (s nodeStatus) index(name string) uint64 {
	n, _ := strconv.ParseUint(s.Raft[name], 10, 64)
	return n
}

func (p *process) logged() string {
	text, err := os.ReadFile(p.log.Name())
	require.NoError(p.t, err)
	return string(text)
}

func (p *process) cleanUp() {
	if p.running() {
		_ = p.command.Process.Kill()
		<-p.ended
	}
	if p.t.Failed() {
		log := p.logged()
		p.t.Logf("the end of the log of %s:\n%s", p.id, log[max(0, len(log)-8000):])
	}
	_ = p.log.Close()
}
