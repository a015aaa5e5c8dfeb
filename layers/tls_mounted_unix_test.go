//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package layers_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/stretchr/testify/require"
)

// Kubernetes mounts a secret as links through ..data, which is a link to a directory.
// It changes the secret by a rename: all files at once, and none in its place.
func TestTLSFiles_OfAMountedSecretAreReloaded(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		mount := newFiles(t, ca.Issue(), ca) // replaced by the links
		project(t, mount.Dir, "..first", testca.WriteFiles(t.TempDir(), ca.Issue(serial(1)), ca))
		for _, path := range []string{mount.Cert(), mount.Key(), mount.CA()} {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Symlink(filepath.Join("..data", filepath.Base(path)), path))
		}
		security := mount.secure()
		security.Logger = logTo(&log)
		listenTLS(t, net, "b", security)
		require.EqualValues(t, 1, serialOf(t, net, ca, "b"))

		project(t, mount.Dir, "..second", testca.WriteFiles(t.TempDir(), ca.Issue(serial(2)), ca))
		require.NoError(t, os.RemoveAll(filepath.Join(mount.Dir, "..first")))
		pause(time.Second)
		synctest.Wait()
		require.EqualValues(t, 2, serialOf(t, net, ca, "b"))
	})
	require.Equal(t, 1, strings.Count(log.String(), "TLS certificates reloaded: local=b"), log.String())
	require.NotContains(t, log.String(), "[ERROR]")
}

// project puts a secret into a mounted directory as the kubelet does.
func project(t *testing.T, mount, name string, secret testca.Files) {
	t.Helper()
	require.NoError(t, os.Rename(secret.Dir, filepath.Join(mount, name)))
	require.NoError(t, os.Symlink(name, filepath.Join(mount, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")))
}
