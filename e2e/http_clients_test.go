package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

// httpClients read and write through the HTTP API of kvnode until they are
// stopped, each time through another node.
type httpClients struct {
	history   *history
	addresses []string
	http      *http.Client
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

const (
	// clientTimeout is after how long a client leaves it unclear what happened.
	clientTimeout = 2 * time.Second
	// httpPause is between two operations of a client.
	httpPause = 5 * time.Millisecond
)

func startHTTPClients(h *history, addresses []string) *httpClients {
	ctx, cancel := context.WithCancel(context.Background())
	c := &httpClients{
		history:   h,
		addresses: addresses,
		http:      &http.Client{Transport: &http.Transport{}, Timeout: clientTimeout},
		cancel:    cancel,
	}
	for i := range clientCount {
		c.running.Go(func() { c.run(ctx, fmt.Sprintf("client%d", i), i) })
	}
	return c
}

// stop waits until what was begun has ended.
func (c *httpClients) stop() {
	c.cancel()
	c.running.Wait()
	c.http.CloseIdleConnections()
}

func (c *httpClients) run(ctx context.Context, name string, number int) {
	pause := time.NewTicker(httpPause)
	defer pause.Stop()
	for i := number; ctx.Err() == nil; i++ {
		address, key := c.addresses[i%len(c.addresses)], keys[i/3%len(keys)]
		if i%2 == 0 {
			c.write(address, operation{client: name, key: key, value: fmt.Sprintf("%d.%d", number, i)})
		} else {
			c.read(address, operation{client: name, key: key})
		}
		<-pause.C
	}
}

// readAll reads every key through every node.
func (c *httpClients) readAll() {
	for _, key := range keys {
		for _, address := range c.addresses {
			c.read(address, operation{client: "the end", key: key})
		}
	}
	c.http.CloseIdleConnections()
}

func (c *httpClients) write(address string, o operation) {
	o.begin = c.history.now()
	status, _, err := c.do(http.MethodPut, address, o.key, strings.NewReader(o.value))
	if errors.Is(err, syscall.ECONNREFUSED) || status == http.StatusServiceUnavailable {
		return // nothing was done
	}
	o.end, o.result, o.unclear = c.history.now(), o.value, status != http.StatusNoContent
	c.history.add(o)
}

func (c *httpClients) read(address string, o operation) {
	o.begin = c.history.now()
	status, value, err := c.do(http.MethodGet, address, o.key, nil)
	if err != nil || status != http.StatusOK && status != http.StatusNotFound {
		return
	}
	o.end = c.history.now()
	if status == http.StatusOK {
		o.result = value
	}
	c.history.add(o)
}

func (c *httpClients) do(method, address, key string, body io.Reader) (status int, text string, err error) {
	request, err := http.NewRequest(method, "http://"+address+"/kv/"+key, body)
	if err != nil {
		return 0, "", err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(data), err
}
