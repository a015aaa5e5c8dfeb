package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProcesses_SurviveAKillOfTheLeader(t *testing.T) {
	c := startProcesses(t, "a", "b", "c")
	c.write(0, 60)
	killed := c.kill()
	c.write(60, 120)
	c.requireWrites(120)

	c.start(killed)
	second := c.kill()
	require.NotEqual(t, killed, second)
	c.write(120, 150) // which takes the one that was killed first
	c.requireWrites(150)
}

// processes are the nodes of a cluster, each a process of its own.
type processes struct {
	t       *testing.T
	dir     string
	servers string // for -servers
	ids     []string
	running map[string]*process
	leader  string // as far as is known
}

type process struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	log     strings.Builder
}

func startProcesses(t *testing.T, ids ...string) *processes {
	c := &processes{t: t, dir: t.TempDir(), ids: ids, running: make(map[string]*process), leader: ids[0]}
	var servers []string
	for _, id := range ids {
		servers = append(servers, id+"="+freeAddress(t))
	}
	c.servers = strings.Join(servers, ",")
	t.Cleanup(c.stop)
	for _, id := range ids {
		c.start(id)
	}
	return c
}

// freeAddress finds a port that a process can have again after a restart: none of those that
// systems give to connections, so not port 0.
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

func (c *processes) start(id string) {
	p := &process{command: exec.Command(os.Args[0], "-id", id, "-servers", c.servers)}
	p.command.Dir = c.dir
	p.command.Env = append(os.Environ(), asNode+"=1")
	p.command.Stderr = &p.log
	var err error
	p.in, err = p.command.StdinPipe() // its end ends the process
	require.NoError(c.t, err)
	out, err := p.command.StdoutPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, p.command.Start())
	c.running[id] = p
	p.out = bufio.NewReader(out)
	ready, err := p.out.ReadString('\n')
	require.NoError(c.t, err, "%s did not start", id)
	require.Equal(c.t, "ready\n", ready)
}

// ask has a process execute a command.
func (p *process) ask(t *testing.T, command string) string {
	_, err := fmt.Fprintln(p.in, command)
	require.NoError(t, err)
	answer, err := p.out.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSuffix(answer, "\n")
}

// ask has the leader execute a command, as soon as there is one.
func (c *processes) ask(command string) string {
	c.t.Helper()
	answer := ""
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		for _, id := range append([]string{c.leader}, c.ids...) {
			if p := c.running[id]; p != nil {
				if answer = p.ask(c.t, command); !strings.HasPrefix(answer, "error: ") {
					c.leader = id
					return answer
				}
			}
		}
		time.Sleep(50 * time.Millisecond) // sleep-ok: other processes elect a leader
	}
	c.t.Fatalf("nobody has executed %q: %s", command, answer)
	return ""
}

func (c *processes) write(begin, end int) {
	for i := begin; i < end; i++ {
		require.Equal(c.t, "ok", c.ask(fmt.Sprintf("set key%d value %d", i, i)))
	}
}

func (c *processes) requireWrites(end int) {
	for i := range end {
		require.Equal(c.t, fmt.Sprintf("value %d", i), c.ask(fmt.Sprintf("get key%d", i)))
	}
}

// kill ends the leader as kill -9 does, and returns it.
func (c *processes) kill() string {
	c.ask("get key0")
	p := c.running[c.leader]
	delete(c.running, c.leader)
	require.NoError(c.t, p.command.Process.Kill())
	require.Error(c.t, p.command.Wait())
	return c.leader
}

func (c *processes) stop() {
	for id, p := range c.running {
		_ = p.in.Close()
		err := p.command.Wait()
		if err != nil || c.t.Failed() {
			c.t.Errorf("%s ended: %v\n%s", id, err, p.log.String())
		}
	}
}
