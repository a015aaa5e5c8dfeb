package probe

import (
	"fmt"
	"strconv"
	"strings"
)

// A Step is something that lies between TCP and Raft: TLS, or a first byte, the key
// of a Mux.
type Step struct {
	TLS bool
	Key byte // unless TLS
}

// String returns what ParseVia reads.
func (s Step) String() string {
	if s.TLS {
		return "tls"
	}
	return strconv.Itoa(int(s.Key))
}

// ParseVia reads what lies between TCP and Raft, outermost first: "tls,11" is a Mux
// over TLS, "none" is plain TCP.
func ParseVia(list string) ([]Step, error) {
	via := []Step{}
	if list == "none" {
		return via, nil
	}
	for _, word := range strings.Split(list, ",") {
		if word == "tls" {
			via = append(via, Step{TLS: true})
			continue
		}
		key, err := strconv.ParseUint(word, 0, 8)
		if err != nil {
			return nil, fmt.Errorf("%q is neither tls nor none nor a byte of 0 to 255", word)
		}
		via = append(via, Step{Key: byte(key)})
	}
	return via, nil
}

// names returns the steps as Report.Via has them.
func names(via []Step) []string {
	all := make([]string, len(via))
	for i, step := range via {
		all[i] = step.String()
	}
	return all
}
