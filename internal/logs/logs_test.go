package logs

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var start = time.Unix(1_000_000, 0)

func TestLimit_AllowsALineForATopicAndWindow(t *testing.T) {
	var l Limit
	written, left := 0, 0
	for second := range 3000 {
		skipped, due := l.Due(Topic{Kind: "scan"}, start.Add(time.Duration(second)*time.Second))
		if due {
			written++
		}
		left += skipped
	}
	require.Equal(t, 10, written)
	require.Equal(t, 9*299, left, "each line but the first counts those before it")
	_, due := l.Due(Topic{Kind: "scan", Detail: "other"}, start.Add(10*window-1))
	require.True(t, due, "another detail is another topic")
}

func TestLimit_AllowsALineForEachOfAFewMembers(t *testing.T) {
	var l Limit
	written := 0
	for i := range 1000 {
		if _, due := l.Due(Topic{Kind: "refused", Member: fmt.Sprint("host-", i%100)}, start); due {
			written++
		}
	}
	require.Equal(t, maxMembers, written)
}

func TestLimit_BoundsTopics(t *testing.T) {
	var l Limit
	written := 0
	for i := range 10 * maxTopics {
		if _, due := l.Due(Topic{Kind: "answer", Detail: fmt.Sprint(i)}, start); due {
			written++
		}
	}
	require.Equal(t, maxTopics+1, written, "those beyond share one topic")
	require.Len(t, l.windows, maxTopics+1)
	_, due := l.Due(Topic{Kind: "answer", Detail: "new"}, start.Add(window))
	require.True(t, due)
	require.Len(t, l.windows, 1, "what is over is forgotten")
}
