package raftwire_test

import (
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

func TestNewSlogLogger_TakesTheLogOfATransport(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		var out bytes.Buffer
		logger := raftwire.NewSlogLogger(slog.New(slog.NewTextHandler(&out, nil)))
		b := listen(t, net, "b", func(c *raftwire.NetworkTransportConfig) { c.Logger = logger.Named("raft-net") })
		say(t, dialRaw(t, net, "a"), "GET / HTTP/1.1\r\n")
		synctest.Wait()
		require.NoError(t, b.Close())
		require.Regexp(t, `level=WARN msg="connection refused" logger=raft-net local=b peer=a:\d+ error="unknown .*HTTP.*"\n$`, out.String())
	})
}
