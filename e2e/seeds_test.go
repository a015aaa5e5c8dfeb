package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// seedsEnv in the environment says which seeds to run: "17", or "1-50000".
const seedsEnv = "RAFTWIRE_SEEDS"

// seedRange is seeds from first to last.
type seedRange struct{ first, last int64 }

// seedsToRun returns the seeds asked for, or else as many as there is time for.
func seedsToRun(t *testing.T) seedRange {
	t.Helper()
	if text := os.Getenv(seedsEnv); text != "" {
		seeds, err := parseSeeds(text)
		require.NoError(t, err, seedsEnv)
		return seeds
	}
	if longRun {
		return seedRange{1, 10 * defaultSeeds}
	}
	return seedRange{1, defaultSeeds}
}

func parseSeeds(text string) (seeds seedRange, err error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	if seeds.first, err = strconv.ParseInt(first, 10, 64); err != nil {
		return seeds, err
	}
	if seeds.last, err = strconv.ParseInt(last, 10, 64); err != nil {
		return seeds, err
	}
	if seeds.last < seeds.first {
		return seeds, fmt.Errorf("%s: the last seed is before the first", text)
	}
	return seeds, nil
}

func (s seedRange) count() int64 { return s.last - s.first + 1 }

func TestSeedsAreReadFromText(t *testing.T) {
	for text, want := range map[string]seedRange{"17": {17, 17}, "1-3": {1, 3}} {
		seeds, err := parseSeeds(text)
		require.NoError(t, err)
		require.Equal(t, want, seeds)
	}
	for _, text := range []string{"", "x", "1-", "3-1"} {
		_, err := parseSeeds(text)
		require.Error(t, err, text)
	}
}
