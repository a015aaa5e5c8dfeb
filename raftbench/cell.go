package main

import (
	"fmt"
	"strconv"
	"strings"
)

// A workload is what one request carries.
type workload struct {
	entries int
	size    int // payload bytes of each entry
}

// heartbeat has no entries. It is answered by the heartbeat handler, one by
// one as Raft sends it.
var heartbeat = workload{}

const nameHeartbeat = "heartbeat"

// payload is the number of payload bytes of a request.
func (w workload) payload() int { return w.entries * w.size }

// String returns the form that parseWorkload takes.
func (w workload) String() string {
	if w == heartbeat {
		return nameHeartbeat
	}
	return fmt.Sprintf("%dx%s", w.entries, sizeText(w.size))
}

// sizeText returns the form that parseSize takes.
func sizeText(size int) string {
	switch {
	case size == 0:
	case size%(1<<20) == 0:
		return strconv.Itoa(size>>20) + "M"
	case size%(1<<10) == 0:
		return strconv.Itoa(size>>10) + "K"
	}
	return strconv.Itoa(size)
}

func parseWorkload(s string) (workload, error) {
	if s == nameHeartbeat {
		return heartbeat, nil
	}
	entries, size, ok := strings.Cut(s, "x")
	n, entriesErr := strconv.ParseUint(entries, 10, 16)
	bytes, sizeErr := parseSize(size)
	w := workload{entries: int(n), size: bytes}
	if !ok || entriesErr != nil || sizeErr != nil || n == 0 || w.payload() > 1<<28 {
		return workload{}, fmt.Errorf("workload %q: write entries x bytes of each, up to 256M together, such as 1x128, 1x0, 64x1K or 1x1M, or heartbeat", s)
	}
	return w, nil
}

func parseSize(s string) (int, error) {
	shift := 0
	switch {
	case strings.HasSuffix(s, "K"):
		shift = 10
	case strings.HasSuffix(s, "M"):
		shift = 20
	}
	n, err := strconv.ParseUint(strings.TrimRight(s, "KM"), 10, 31-shift)
	return int(n) << shift, err
}

// MarshalText and UnmarshalText make a workload its name in JSON.
func (w workload) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

func (w *workload) UnmarshalText(text []byte) (err error) {
	*w, err = parseWorkload(string(text))
	return err
}

// A window is how many requests are in flight at most.
type window int

const (
	// streaming has no window: the next request does not wait for any answer.
	streaming window = 0
	// oneByOne makes calls, each of which waits for its answer.
	oneByOne window = 1
)

// String returns the form that parseWindow takes.
func (w window) String() string {
	switch w {
	case streaming:
		return "stream"
	case oneByOne:
		return "sync"
	}
	return strconv.Itoa(int(w))
}

func parseWindow(s string) (window, error) {
	switch s {
	case "stream":
		return streaming, nil
	case "sync":
		return oneByOne, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n < 2 {
		return 0, fmt.Errorf("window %q: write sync, stream or a number of requests in flight from 2 to 65535", s)
	}
	return window(n), nil
}

// MarshalText and UnmarshalText make a window its name in JSON.
func (w window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

func (w *window) UnmarshalText(text []byte) (err error) {
	*w, err = parseWindow(string(text))
	return err
}

// A cell is what rivals are compared in.
type cell struct {
	workload  workload
	window    window
	followers followers
}

// lane names what a cell is without its workload.
func (c cell) lane() string {
	if c.followers == 1 {
		return c.window.String()
	}
	return fmt.Sprintf("%s to %d", c.window, c.followers)
}

// A followers is how many receivers one sender sends to at once.
type followers int

func (f followers) String() string { return strconv.Itoa(int(f)) }

func parseFollowers(s string) (followers, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("followers %q: write a number from 1 to 255", s)
	}
	return followers(n), nil
}
