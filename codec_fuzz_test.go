package raftwire

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"testing/iotest"
)

// stricter lists the errors for frames that the oracle accepts and this codec does
// not; codec.go says why.
var stricter = regexp.MustCompile(`` +
	`Entries\[\d+\]: is nil$|` +
	`Size: -\d+ is negative$|` +
	`: comes twice$|` +
	`: found (an array|a map) \(0x..\), not a byte string$|` +
	`Entries: found a map \(0x..\), not an array$|` +
	`AppendedAt: [0-9a-f]{30,32} is not a time$|` +
	`: nested more than 100 deep$|` +
	`: needs more than \d+ bytes of memory for \d+ bytes$`)

// agree compares decoding with the oracle's, and decoding byte by byte with decoding
// at once.
func agree(t *testing.T, k codecKind, frame []byte) {
	t.Helper()
	got, err := decode(frame, k)
	slow, r := decodeFrom(iotest.OneByteReader(bytes.NewReader(frame)), k)
	sameOutcome(t, slow, r.Err(), got, err)
	if declaresTooMuch(frame) {
		return
	}
	want := k.empty()
	wantErr := oracleDecode(frame, want)
	switch {
	case err == nil && wantErr == nil:
		equal(t, want, got)
	case err == nil:
		t.Fatalf("accepted %q, which the oracle rejects: %v", frame, wantErr)
	case wantErr == nil && !stricter.MatchString(err.Error()):
		t.Fatalf("rejected %q, which the oracle accepts: %v", frame, err)
	}
}

// smallFrames returns frames of a kind in several encodings, small enough for a
// fuzzer.
func smallFrames(t testing.TB, k codecKind) (frames [][]byte) {
	rnd := rand.New(rand.NewPCG(1, 1))
	messages := []any{k.empty()}
	for _, g := range goldenRequests {
		messages = append(messages, g.message)
	}
	for _, g := range goldenResponses {
		messages = append(messages, g.message)
	}
	for _, m := range messages {
		if reflect.TypeOf(m) != reflect.TypeOf(k.empty()) {
			continue
		}
		for _, newTime := range []bool{false, true} {
			frames = append(frames, oracleEncode(t, m, newTime),
				arrayOf(t, m, newTime), shuffledMap(t, rnd, m, newTime), newForms(t, m))
		}
	}
	return frames
}

// The damage is drawn at random, from what is likely to hurt.
func TestCodec_AgreesWithTheOracleOnDamagedFrames(t *testing.T) {
	for _, k := range codecKinds {
		t.Run(k.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(11, 12))
			frames := smallFrames(t, k)
			for range 2000 {
				agree(t, k, damage(rnd, frames[rnd.IntN(len(frames))]))
			}
		})
	}
}

// damage replaces, removes or inserts a few bytes.
func damage(rnd *rand.Rand, frame []byte) []byte {
	codes := []byte{0x00, 0x01, 0x7f, 0x80, 0x81, 0x90, 0x91, 0xa0, 0xa4, 0xaf, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5,
		0xc7, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd6, 0xd7, 0xd9, 0xda, 0xdc, 0xde, 0xe0, 0xff}
	frame = slices.Clone(frame)
	for range 1 + rnd.IntN(3) {
		at := rnd.IntN(len(frame))
		c := codes[rnd.IntN(len(codes))]
		switch rnd.IntN(4) {
		case 0:
			frame = slices.Insert(frame, at, c)
		case 1:
			frame = append(slices.Delete(frame, at, at+1), 0)
		default:
			frame[at] = c
		}
	}
	return frame
}

func fuzzDecode(f *testing.F, kinds []codecKind) {
	for i, k := range kinds {
		for _, frame := range smallFrames(f, k) {
			f.Add(uint8(i), frame)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, frame []byte) {
		agree(t, kinds[int(kind)%len(kinds)], frame)
	})
}

func sameOutcome(t *testing.T, slow any, slowErr error, got any, err error) {
	if err == nil && slowErr == nil {
		equal(t, slow, got)
		return
	}
	// How much had arrived shows in nothing but the budget for memory.
	if (err == nil) != (slowErr == nil) || err.Error() != slowErr.Error() {
		t.Fatalf("at once: %v, byte by byte: %v", err, slowErr)
	}
}

// declaresTooMuch reports whether the frame may declare a length that takes the oracle
// seconds or gigabytes.
func declaresTooMuch(frame []byte) bool {
	for i, c := range frame[:max(0, len(frame)-4)] {
		if (c == 0xc6 || c == 0xc9 || c == 0xdb || c == 0xdd || c == 0xdf) && (frame[i+1] > 0 || frame[i+2] > 0) {
			return true
		}
	}
	return false
}

func FuzzDecodeRequest(f *testing.F)  { fuzzDecode(f, requestKinds) }
func FuzzDecodeResponse(f *testing.F) { fuzzDecode(f, responseKinds) }

// FuzzRoundTrip encodes a message made from a seed, decodes it and encodes it again:
// with this codec, with the oracle and with both in turn.
func FuzzRoundTrip(f *testing.F) {
	for i := range codecKinds {
		f.Add(uint8(i), uint64(i), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, kind uint8, seed uint64, newTime bool) {
		k := codecKinds[int(kind)%len(codecKinds)]
		m := randomMessage(rand.New(rand.NewPCG(seed, seed)), k)
		frame := k.append(nil, m, newTime)
		equal(t, oracleEncode(t, m, newTime), frame)
		ours, err := decode(frame, k)
		if err != nil {
			t.Fatal(err)
		}
		theirs := k.empty()
		if err := oracleDecode(frame, theirs); err != nil {
			t.Fatal(err)
		}
		equal(t, theirs, ours)
		equal(t, oracleEncode(t, theirs, newTime), k.append(nil, ours, newTime))
	})
}
