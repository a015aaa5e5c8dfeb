package checks

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/raftwire/raftwire/internal/testca"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// The commands of compose.yaml and kubernetes.yaml run here as processes, with other
// addresses and directories. What containers and their networks do is not seen.

func TestCompose_ItsCommandsMakeACluster(t *testing.T) {
	project, err := parseCompose(t, read(t, deploy+"compose.yaml"))
	require.NoError(t, err)
	var nodes []*node
	for name, service := range project.Services {
		if service.Image != "kvnode" {
			continue
		}
		n := &node{name: name, flags: parseFlags(t, service.Command), grace: time.Duration(*service.StopGracePeriod)}
		require.Equal(t, name, n.flags["id"])
		require.Equal(t, name+n.flags["raft"], n.peers(t)[name].raft, "the host is the service, the port is bound")
		published := service.Ports[0]
		require.Equal(t, fmt.Sprintf(":%d", published.Target), n.flags["http"])
		require.Equal(t, published.HostIP+":"+published.Published, n.peers(t)[name].http, "redirects lead where the host listens")
		require.Equal(t, n.flags["data"], service.Volumes[0].Target)
		require.Contains(t, project.Volumes, service.Volumes[0].Source)
		require.Contains(t, read(t, deploy+"prometheus.yml"), `"`+name+n.flags["http"]+`"`)
		nodes = append(nodes, n)
	}
	require.Len(t, nodes, 3)
	for _, mount := range project.Services["prometheus"].Volumes {
		require.FileExists(t, mount.Source)
		require.Equal(t, "/etc/prometheus/"+filepath.Base(mount.Source), mount.Target, "where the image looks for its configuration")
	}
	build := project.Services[nodes[0].name].Build
	require.FileExists(t, filepath.Join(build.Context, build.Dockerfile))
	startAll(t, nodes)
	awaitOK(t, nodes, "/ready")
	awaitOK(t, nodes, "/metrics") // Prometheus' default path
	writeAndStop(t, nodes)
}

func TestKubernetes_ItsPodsMakeACluster(t *testing.T) {
	m, err := parseKubernetes(read(t, deploy+"kubernetes.yaml"))
	require.NoError(t, err)
	pod := m.nodes.Spec.Template.Spec
	require.Len(t, pod.Containers, 1)
	container := pod.Containers[0]
	requireKubernetesFits(t, m, container)

	var nodes []*node
	ca := testca.New()
	for i := range int(*m.nodes.Spec.Replicas) {
		name := fmt.Sprintf("%s-%d", m.nodes.Name, i)
		require.Equal(t, "metadata.name", container.Env[0].ValueFrom.FieldRef.FieldPath)
		var args []string
		for _, arg := range container.Args {
			args = append(args, strings.ReplaceAll(arg, "$("+container.Env[0].Name+")", name))
		}
		n := &node{name: name, flags: parseFlags(t, args), grace: time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second}
		require.Equal(t, name, n.flags["id"])
		require.Equal(t, peer{name + "." + m.nodes.Spec.ServiceName + n.flags["raft"], name + "." + m.nodes.Spec.ServiceName + n.flags["http"]}, n.peers(t)[name])
		require.Equal(t, fmt.Sprintf(":%d", container.Ports[0].ContainerPort), n.flags["raft"])
		require.Equal(t, fmt.Sprintf(":%d", container.Ports[1].ContainerPort), n.flags["http"])
		require.Equal(t, []string{"/data", "/tls"}, []string{n.flags["data"], n.flags["tls"]})
		n.secret = &secret{mount: t.TempDir(), items: pod.Volumes[0].Secret.Items}
		n.secret.update(t, ca)
		nodes = append(nodes, n)
	}
	startAll(t, nodes)
	for _, probe := range []*corev1.Probe{container.StartupProbe, container.ReadinessProbe, container.LivenessProbe} {
		require.Equal(t, "http", probe.HTTPGet.Port.String())
		awaitOK(t, nodes, probe.HTTPGet.Path)
	}
	for _, n := range nodes {
		n.secret.update(t, ca)
		await(t, n.name+" uses its new certificate", func() bool { return strings.Contains(n.logged(t), "TLS certificates reloaded") })
	}
	writeAndStop(t, nodes)
}

// requireKubernetesFits compares what the parts of the manifest say of each other.
func requireKubernetesFits(t *testing.T, m manifest, container corev1.Container) {
	labels := m.nodes.Spec.Template.Labels
	require.Equal(t, labels, m.nodes.Spec.Selector.MatchLabels)
	require.Equal(t, labels, m.budget.Spec.Selector.MatchLabels)
	headless := m.services[m.nodes.Spec.ServiceName]
	require.Equal(t, corev1.ClusterIPNone, headless.Spec.ClusterIP)
	require.True(t, headless.Spec.PublishNotReadyAddresses, "else no node is ever ready")
	require.EqualValues(t, "Parallel", m.nodes.Spec.PodManagementPolicy, "else the first pod waits for the second")
	for _, service := range m.services {
		require.Equal(t, labels, service.Spec.Selector)
		for _, port := range service.Spec.Ports {
			require.True(t, slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool {
				return p.Name == port.Name && p.ContainerPort == port.Port
			}), "%s: %s", service.Name, port.Name)
		}
	}
	mounted := make(map[string]string)
	for _, mount := range container.VolumeMounts {
		require.Empty(t, mount.SubPath, "it would not change with the secret")
		mounted[mount.Name] = mount.MountPath
	}
	require.EqualValues(t, 0o440, *m.nodes.Spec.Template.Spec.Volumes[0].Secret.DefaultMode)
	require.Equal(t, map[string]string{
		m.nodes.Spec.VolumeClaimTemplates[0].Name:  "/data",
		m.nodes.Spec.Template.Spec.Volumes[0].Name: "/tls",
	}, mounted)
}

// node is a process of kvnode.
type node struct {
	name   string
	flags  map[string]string
	grace  time.Duration
	secret *secret // or nil

	http    string
	log     string
	process *exec.Cmd
	ended   chan error
}

// peer is where a node is, according to the flag -peers.
type peer struct{ raft, http string }

func (n *node) peers(t *testing.T) map[string]peer {
	peers := make(map[string]peer)
	for item := range strings.SplitSeq(n.flags["peers"], ",") {
		name, addresses, _ := strings.Cut(item, "=")
		raft, http, both := strings.Cut(addresses, "/")
		require.True(t, both, item)
		peers[name] = peer{raft, http}
	}
	return peers
}

// parseFlags reads flags of the form -name=value, or -name. Whether kvnode has them is
// for kvnode to say.
func parseFlags(t *testing.T, args []string) map[string]string {
	flags := make(map[string]string)
	for _, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		require.True(t, strings.HasPrefix(name, "-"), arg)
		if !given {
			value = "true"
		}
		flags[strings.TrimPrefix(name, "-")] = value
	}
	return flags
}

// startAll starts the nodes with their flags, but for addresses and directories.
func startAll(t *testing.T, nodes []*node) {
	binary := filepath.Join(t.TempDir(), "kvnode")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Dir = filepath.Join(deploy, "..")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(a.name, b.name) })
	free := freeAddresses(2 * len(nodes))
	var peers []string
	for i, n := range nodes {
		require.Equal(t, nodes[0].flags["peers"], n.flags["peers"])
		require.Len(t, n.peers(t), len(nodes))
		raft := free[2*i]
		n.http = free[2*i+1]
		n.flags["raft"], n.flags["http"], n.flags["data"] = raft, n.http, t.TempDir()
		if n.secret != nil {
			n.flags["tls"] = n.secret.mount
		}
		peers = append(peers, fmt.Sprintf("%s=%s/%s", n.name, raft, n.http))
	}
	for _, n := range nodes {
		n.flags["peers"] = strings.Join(peers, ",")
		n.start(t, binary)
	}
}

func (n *node) start(t *testing.T, binary string) {
	var args []string
	for _, name := range slices.Sorted(maps.Keys(n.flags)) {
		args = append(args, "-"+name+"="+n.flags[name])
	}
	log, err := os.Create(filepath.Join(t.TempDir(), n.name))
	require.NoError(t, err)
	defer log.Close()
	n.log, n.process, n.ended = log.Name(), exec.Command(binary, args...), make(chan error, 1)
	n.process.Stderr = log
	require.NoError(t, n.process.Start())
	go func() {
		n.ended <- n.process.Wait()
		close(n.ended)
	}()
	t.Cleanup(func() {
		_ = n.process.Process.Kill()
		<-n.ended
		if t.Failed() {
			t.Logf("%s:\n%s", n.name, n.logged(t))
		}
	})
}

func (n *node) logged(t *testing.T) string { return read(t, n.log) }

// writeAndStop writes through one node and reads through another. Then it stops the
// nodes as containers are stopped, each in its grace period.
func writeAndStop(t *testing.T, nodes []*node) {
	request, err := http.NewRequest(http.MethodPut, "http://"+nodes[0].http+"/kv/greeting", strings.NewReader("hello"))
	require.NoError(t, err)
	await(t, "a write", func() bool {
		request.Body, _ = request.GetBody()
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusNoContent
	})
	for i, n := range nodes {
		if i < 2 { // those that are left are most
			await(t, "a read", func() bool { return get(nodes[2].http, "/kv/greeting") == "hello" })
		}
		require.NoError(t, n.process.Process.Signal(syscall.SIGTERM))
		select {
		case err := <-n.ended:
			require.NoError(t, err, "the exit code is 0")
		case <-time.NewTimer(n.grace).C:
			t.Fatalf("%s has not stopped in %v", n.name, n.grace)
		}
	}
}

// get returns the body of an answer with status 200.
func get(address, path string) string {
	answer, err := http.Get("http://" + address + path)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}

func awaitOK(t *testing.T, nodes []*node, path string) {
	t.Helper()
	for _, n := range nodes {
		await(t, n.name+" to answer "+path, func() bool {
			answer, err := http.Get("http://" + n.http + path)
			if err != nil {
				return false
			}
			_ = answer.Body.Close()
			return answer.StatusCode == http.StatusOK
		})
	}
}

// await looks again and again. Processes have no other way to tell.
func await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for !happened() {
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// freeAddresses finds ports that no connection of another program gets meanwhile: none
// of those that systems give by themselves. The host has a name, as in containers.
func freeAddresses(count int) (addresses []string) {
	for len(addresses) < count {
		port := 10000 + rand.IntN(20000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer listener.Close() // all at the end, so that none comes twice
		addresses = append(addresses, fmt.Sprintf("localhost:%d", port))
	}
	return addresses
}

// secret is one that is mounted as the kubelet does: as links through ..data, which
// is a link to a directory and is replaced by a rename.
type secret struct {
	mount string
	items []corev1.KeyToPath
	count int
}

// update gives the secret a new certificate, with the keys of cert-manager.
func (s *secret) update(t *testing.T, ca *testca.Authority) {
	issued := testca.WriteFiles(t.TempDir(), ca.Issue(func(c *x509.Certificate) { c.DNSNames = []string{"kvnode"} }), ca)
	keys := map[string]string{"tls.crt": issued.Cert(), "tls.key": issued.Key(), "ca.crt": issued.CA()}
	before := fmt.Sprintf("..%d", s.count)
	s.count++
	now := fmt.Sprintf("..%d", s.count)
	require.NoError(t, os.Mkdir(filepath.Join(s.mount, now), 0o700))
	for _, item := range s.items {
		require.Contains(t, keys, item.Key)
		require.NoError(t, os.WriteFile(filepath.Join(s.mount, now, item.Path), []byte(read(t, keys[item.Key])), 0o600))
		if s.count == 1 {
			require.NoError(t, os.Symlink(filepath.Join("..data", item.Path), filepath.Join(s.mount, item.Path)))
		}
	}
	require.NoError(t, os.Symlink(now, filepath.Join(s.mount, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(s.mount, "..data_tmp"), filepath.Join(s.mount, "..data")))
	require.NoError(t, os.RemoveAll(filepath.Join(s.mount, before)))
}
