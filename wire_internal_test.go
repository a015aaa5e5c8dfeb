package raftwire

import (
	"errors"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// byteFields calls f with each byte slice of a struct, and of the structs in it.
func byteFields(v reflect.Value, f func(name string, field reflect.Value)) {
	for i := range v.NumField() {
		switch field := v.Field(i); {
		case field.Kind() == reflect.Struct && field.Type() == reflect.TypeFor[RPCHeader]():
			byteFields(field, f)
		case field.Type() == reflect.TypeFor[[]byte]():
			f(v.Type().Field(i).Name, field)
		}
	}
}

// Each length that is written is checked, in every message.
func TestLengths_ChecksEveryField(t *testing.T) {
	const most = 10
	check := func(k codecKind, check func(m any, most int64) error) {
		require.NoError(t, check(k.empty(), most))
		m := k.empty()
		found := 0
		byteFields(reflect.ValueOf(m).Elem(), func(name string, field reflect.Value) {
			found++
			field.SetBytes(make([]byte, most))
			require.NoError(t, check(m, most), "%s.%s", k.name, name)
			field.SetBytes(make([]byte, most+1))
			require.EqualError(t, check(m, most), name+" is too long: its length is 11, and the format takes at most 10")
			field.SetBytes(nil)
		})
		require.GreaterOrEqual(t, found, 2, k.name)
	}
	for _, k := range requestKinds {
		check(k, checkRequestWithin)
	}
	for _, k := range responseKinds {
		check(k, checkResponse)
		require.NoError(t, checkResponse(reflect.Zero(reflect.PointerTo(reflect.TypeOf(k.empty()).Elem())).Interface(), most))
	}
}

func TestLengths_ChecksEntries(t *testing.T) {
	const most = 10
	for want, entries := range map[string][]*Log{
		"Entries is too long: its length is 11, and the format takes at most 10":               make([]*Log, 11),
		"Entries[1].Data is too long: its length is 11, and the format takes at most 10":       {{}, {Data: make([]byte, 11)}},
		"Entries[0].Extensions is too long: its length is 11, and the format takes at most 10": {{Extensions: make([]byte, 11)}},
	} {
		require.EqualError(t, checkRequestWithin(&AppendEntriesRequest{Entries: entries}, most), want)
	}
	fits := []*Log{{Data: make([]byte, 10), Extensions: make([]byte, 10)}}
	require.NoError(t, checkRequestWithin(&AppendEntriesRequest{Entries: fits}, most))
}

// An answer that is too long becomes an error that fits.
func TestLengths_OfAnswers(t *testing.T) {
	answer, wrong := answerWithin(rpcRequestVote, RPCResponse{Response: &RequestVoteResponse{Peers: make([]byte, 11)}}, 10)
	require.True(t, wrong)
	require.Nil(t, answer.Response)
	require.EqualError(t, answer.Error, "the consumer answered RequestVote with a response that cannot travel: "+
		"Peers is too long: its length is 11, and the format takes at most 10")

	refused := errors.New("refused")
	answer, wrong = answerWithin(rpcRequestVote, RPCResponse{Response: &RequestVoteResponse{Peers: make([]byte, 11)}, Error: refused}, 10)
	require.False(t, wrong)
	require.Equal(t, RPCResponse{Error: refused}, answer)

	require.Equal(t, "refused", errorText(refused, 7))
	require.Equal(t, "an error, a *errors.errorString, whose text is left out: it is too long: its length is 7, and the format takes at most 6",
		errorText(refused, 6))
}
