package layers_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// Close waits for the goroutine that looks at the files, which is in a logger here.
func TestTLSClose_WaitsForTheLooksAtFiles(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, inner *faultnet.Layer, security layers.TLSConfig) (closeIt func() error){
		"TLS": func(t *testing.T, inner *faultnet.Layer, security layers.TLSConfig) func() error {
			return over(t, inner, security).Close
		},
		"Mux": func(t *testing.T, inner *faultnet.Layer, security layers.TLSConfig) func() error {
			mux, err := layers.NewMux(layers.MuxConfig{Listener: inner, TLS: &security, Logger: hclog.NewNullLogger()})
			require.NoError(t, err)
			return mux.Close
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				slow, log := newSlowLoad(), &stuckLog{released: make(chan struct{})}
				inner, err := network.Host("b").Listen()
				require.NoError(t, err)
				closeIt := open(t, inner, slow.secure(log))
				slow.serial.Store(2)
				pause(time.Second) // it is reloaded, which the log is told
				synctest.Wait()
				closed := make(chan error, 1)
				go func() { closed <- closeIt() }()
				pause(500 * time.Millisecond)
				synctest.Wait()
				require.Empty(t, closed, "Close has returned")
				close(log.released)
				synctest.Wait()
				require.NoError(t, <-closed)
			})
		})
	}
}

// stuckLog blocks whoever writes to it.
type stuckLog struct{ released chan struct{} }

func (l *stuckLog) Write(p []byte) (int, error) {
	<-l.released
	return len(p), nil
}

// over puts TLS over a layer.
func over(t *testing.T, inner raftwire.StreamLayer, security layers.TLSConfig) *layers.TLS {
	layer, err := layers.NewTLS(inner, security)
	require.NoError(t, err)
	return layer
}
