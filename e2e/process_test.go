package e2e

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
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Three processes on TCP, of the example program kvnode, are killed one after
// the other and all at once, while clients read and write.
func TestProcessesThatAreKilled(t *testing.T) {
	t.Parallel()
	c := startProcesses(t, 3)
	h := newHistory()
	clients := startHTTPClients(h, c.addresses())
	defer clients.stop()
	works := func() {
		t.Helper()
		since := h.now() + workTime
		await(t, "a write to succeed", func() bool { return h.writtenSince(since) })
	}

	rounds := 2
	if longRun {
		rounds *= 10
	}
	works()
	for range rounds {
		for _, victim := range []*process{c.leader(), c.nodes[rand.IntN(len(c.nodes))]} {
			victim.kill()
			works()
			victim.start()
			works()
		}
		for _, n := range c.nodes {
			n.kill()
		}
		for _, n := range c.nodes {
			n.start()
		}
		works()
	}

	clients.stop()
	clients.readAll()
	t.Logf("%d operations, %d succeeded", len(h.operations()), len(h.succeeded()))
	if err := h.check(replacing); err != nil {
		t.Errorf("%v:\n%v", err, h)
	}
}

const (
	// workTime is how long clients work between two blows.
	workTime = 500 * time.Millisecond
	// processPatience is only how long a broken test takes to fail.
	processPatience = time.Minute
)

// await looks again and again. Processes have no other way to tell.
func await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	limit := time.NewTimer(processPatience)
	defer limit.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !happened() {
		select {
		case <-look.C:
		case <-limit.C:
			t.Fatalf("waited %v in vain for %s", processPatience, what)
		}
	}
}

// processes are a cluster.
type processes struct {
	t     *testing.T
	nodes []*process
}

// process is a node that runs, or ran, as a process of its own.
type process struct {
	t       *testing.T
	name    string
	http    string
	program string
	args    []string
	log     *os.File
	command *exec.Cmd // of the last start
}

// startProcesses returns when all processes listen.
func startProcesses(t *testing.T, count int) *processes {
	c := &processes{t: t}
	program, data := buildKVNode(t), t.TempDir()
	var peers []string
	for i := range count {
		n := &process{t: t, name: string(rune('a' + i)), http: freeAddress(t), program: program}
		n.args = []string{"-id", n.name, "-data", data, "-snapshot-after", "100"}
		peers = append(peers, fmt.Sprintf("%s=%s/%s", n.name, freeAddress(t), n.http))
		c.nodes = append(c.nodes, n)
	}
	c.nodes[0].args = append(c.nodes[0].args, "-bootstrap")
	for _, n := range c.nodes {
		n.args = append(n.args, "-peers", strings.Join(peers, ","))
		n.openLog()
		n.start()
		t.Cleanup(n.cleanUp)
	}
	return c
}

// buildKVNode returns the path of the program. It is built in its own module,
// with the flags that GOFLAGS has for this one, such as -race.
func buildKVNode(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "kvnode")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "hashicorpraft", "examples", "kvnode")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return program
}

// freeAddress finds a port that a process can have again after a restart: none
// of those that systems give to connections, which is why it is not port 0.
func freeAddress(t *testing.T) string {
	t.Helper()
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

func (c *processes) addresses() (all []string) {
	for _, n := range c.nodes {
		all = append(all, n.http)
	}
	return all
}

// leader returns the node that another says is the leader.
func (c *processes) leader() (leader *process) {
	c.t.Helper()
	await(c.t, "a leader", func() bool {
		name := c.nodes[rand.IntN(len(c.nodes))].leader()
		for _, n := range c.nodes {
			if n.name == name {
				leader = n
			}
		}
		return leader != nil
	})
	return leader
}

func (p *process) openLog() {
	var err error
	p.log, err = os.Create(filepath.Join(p.t.TempDir(), p.name+".log"))
	require.NoError(p.t, err)
}

// start returns when the process says that it listens.
func (p *process) start() {
	p.t.Helper()
	p.command = exec.Command(p.program, p.args...)
	p.command.Stderr = p.log
	out, err := p.command.StdoutPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, p.command.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(p.t, err, "%s did not start", p.name)
}

// kill ends the process as a power cut would, but for what the disk has not got.
func (p *process) kill() {
	p.t.Helper()
	require.NoError(p.t, p.command.Process.Kill())
	_ = p.command.Wait() // it did not end well
	require.Equal(p.t, -1, p.command.ProcessState.ExitCode(), "%s had ended before it was killed", p.name)
}

// leader returns who leads by what the process knows, "" if it knows nobody.
func (p *process) leader() string {
	answer, err := http.Get("http://" + p.http + "/status")
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	var status struct{ Leader string }
	require.NoError(p.t, json.NewDecoder(answer.Body).Decode(&status))
	return status.Leader
}

func (p *process) cleanUp() {
	if p.command.Process != nil {
		_ = p.command.Process.Kill()
		_ = p.command.Wait()
	}
	if text, err := os.ReadFile(p.log.Name()); err == nil && p.t.Failed() {
		p.t.Logf("the end of the log of %s:\n%s", p.name, text[max(0, len(text)-8000):])
	}
	_ = p.log.Close()
}
