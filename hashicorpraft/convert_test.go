package hashicorpraft

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMessagesOfThisVersionAreNotCopied(t *testing.T) {
	for i, shared := range []bool{
		appendEntriesRequest.shared(), appendEntriesResponse.shared(),
		requestVoteRequest.shared(), requestVoteResponse.shared(),
		requestPreVoteRequest.shared(), requestPreVoteResponse.shared(),
		installSnapshotRequest.shared(), installSnapshotResponse.shared(),
		timeoutNowRequest.shared(), timeoutNowResponse.shared(),
	} {
		require.True(t, shared, i)
	}
}

type (
	number   uint64
	inner    struct{ N uint64 }
	innerToo struct{ N number }
	innerOdd struct{ N int64 }
	now      struct{ List []*inner }
	alike    struct{ List []*innerToo }
	renamed  struct{ Other []*inner }
	retyped  struct{ List []*innerOdd }
	byValue  struct{ List []inner }
	extended struct {
		List []*inner
		More bool
	}
	unordered struct {
		A uint32
		B uint32
	}
	reordered struct {
		B uint32
		A uint32
	}
	spoken struct{ Word any }
	shown  struct{ Word interface{ Show() } }
)

func TestLayoutsThatDifferAnywhereAreFound(t *testing.T) {
	same := func(a, b any) bool { return sameLayout(reflect.TypeOf(a), reflect.TypeOf(b)) }
	require.True(t, same(now{}, now{}))
	require.True(t, same(now{}, alike{}))
	require.False(t, same(now{}, renamed{}))
	require.False(t, same(now{}, retyped{}))
	require.False(t, same(now{}, byValue{}))
	require.False(t, same(now{}, extended{}))
	require.False(t, same(unordered{}, reordered{}))
	require.False(t, same(spoken{}, shown{}))
}

// What a later version adds stays behind; the rest arrives.
func TestCopiesKeepWhatBothHave(t *testing.T) {
	short := message[extended, alike]{}
	from := &extended{List: []*inner{{1}, nil, {2}}, More: true}
	travels := short.toWire(from)
	require.Equal(t, &alike{List: []*innerToo{{1}, nil, {2}}}, travels)
	require.Equal(t, &extended{List: from.List}, short.toRaft(travels))

	back := &extended{More: true}
	short.fill(back, travels)
	require.Equal(t, &extended{List: from.List}, back)

	require.Nil(t, short.toWire(nil))
	require.Equal(t, &renamed{}, copied[renamed](&now{List: from.List}))
	require.Equal(t, &alike{}, copied[alike](&now{}))
	require.Equal(t, &innerToo{3}, copied[innerToo](&inner{3}))
	require.Equal(t, &innerOdd{}, copied[innerOdd](&inner{3}), "another kind is another thing")
}
