package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// tries has a short run of each program, by its folder. bin is the program, and
// dir a folder for its files.
var tries = map[string]func(r *rehearsal, dir, bin string) error{
	"cmd/raftwire":                  tryProbe,
	"hashicorpraft/examples/kvnode": tryNode,
	"raftbench":                     tryBench,
}

// tryProbe probes a port that nobody listens on.
func tryProbe(r *rehearsal, dir, bin string) error {
	addresses, err := freeAddresses(1)
	if err != nil {
		return err
	}
	if _, err = r.run(dir, bin, "probe", addresses[0]); err == nil || !strings.Contains(err.Error(), "unreachable") {
		return fmt.Errorf("raftwire probe does not say that %s is unreachable: %v", addresses[0], err)
	}
	return nil
}

// tryBench measures one cell for one round.
func tryBench(r *rehearsal, dir, bin string) error {
	table, err := r.run(dir, bin, "-workloads", "1x128", "-windows", "2", "-rivals", "hashicorp/raft,raftwire", "-rounds", "1", "-heap", "0")
	if err == nil && !strings.Contains(table, "1x128") {
		err = fmt.Errorf("raftbench prints no figures:\n%s", table)
	}
	return err
}

// tryNode runs a cluster of one node, writes a key, and reads it.
func tryNode(_ *rehearsal, dir, bin string) error {
	addresses, err := freeAddresses(2)
	if err != nil {
		return err
	}
	node := exec.Command(bin, "-id", "a", "-bootstrap", "-peers", "a="+addresses[0]+"/"+addresses[1])
	node.Dir = dir
	var log bytes.Buffer
	node.Stdout, node.Stderr = &log, &log
	if err := node.Start(); err != nil {
		return err
	}
	url := "http://" + addresses[1] + "/kv/key"
	err = errors.Join(within(10*time.Second, func() error { return put(url, "value") }), get(url, "value"))
	if err := errors.Join(node.Process.Signal(os.Interrupt), node.Wait()); err != nil {
		return fmt.Errorf("kvnode does not end well: %w\n%s", err, &log)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, &log)
	}
	return nil
}

// within calls try until it succeeds: a node needs a moment to become leader.
func within(limit time.Duration, try func() error) error {
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		if err := try(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func put(url, value string) error {
	request, err := http.NewRequest(http.MethodPut, url, strings.NewReader(value))
	if err != nil {
		return err
	}
	_, err = answer(http.DefaultClient.Do(request))
	return err
}

func get(url, want string) error {
	got, err := answer(http.Get(url))
	if err == nil && strings.TrimSpace(got) != want {
		err = fmt.Errorf("%s is %q, not %q", url, got, want)
	}
	return err
}

func answer(response *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}

func freeAddresses(n int) (addresses []string, err error) {
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}
