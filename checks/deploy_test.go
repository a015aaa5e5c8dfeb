package checks

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/prometheus/prometheus/config"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

const deploy = "../hashicorpraft/examples/kvnode/deploy/"

func TestCompose_KeepsItsSchema(t *testing.T) {
	text := read(t, deploy+"compose.yaml")
	_, err := parseCompose(t, text)
	require.NoError(t, err)
	for field, typo := range map[string]string{"stop_grace_period": "stop_grace_periods", "command": "comand", "volumes:\n      -": "volume:\n      -"} {
		broken := strings.Replace(text, field, typo, 1)
		require.NotEqual(t, text, broken)
		_, err = parseCompose(t, broken)
		require.ErrorContains(t, err, "additional properties", typo)
	}
}

func parseCompose(t *testing.T, text string) (*types.Project, error) {
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  deploy,
		ConfigFiles: []types.ConfigFile{{Filename: deploy + "compose.yaml", Content: []byte(text)}},
	})
}

func TestPrometheusConfig_IsWhatPrometheusReads(t *testing.T) {
	text := read(t, deploy+"prometheus.yml")
	_, err := config.Load(text, slog.Default())
	require.NoError(t, err)
	_, err = config.Load(strings.Replace(text, "rule_files", "rules_files", 1), slog.Default())
	require.ErrorContains(t, err, "rules_files not found")
}

func TestKubernetes_KeepsItsSchema(t *testing.T) {
	text := read(t, deploy+"kubernetes.yaml")
	_, err := parseKubernetes(text)
	require.NoError(t, err)
	for field, typo := range map[string]string{
		"clusterIP":           "clusterIp",
		"targetPort":          "targetport",
		"maxUnavailable":      "maxUnavailble",
		"podManagementPolicy": "podManagmentPolicy",
		"readinessProbe":      "readynessProbe",
		"mountPath":           "mountpath",
		"secretName":          "secret",
	} {
		broken := strings.Replace(text, field, typo, 1)
		require.NotEqual(t, text, broken)
		_, err = parseKubernetes(broken)
		require.ErrorContains(t, err, "unknown field", typo)
	}
}

// manifest is what kubernetes.yaml has.
type manifest struct {
	services map[string]*corev1.Service
	nodes    *appsv1.StatefulSet
	budget   *policyv1.PodDisruptionBudget
}

func parseKubernetes(text string) (m manifest, err error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return m, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	m.services = make(map[string]*corev1.Service)
	for document := range strings.SplitSeq(text, "\n---\n") {
		object, _, err := decoder.Decode([]byte(document), nil, nil)
		if err != nil {
			return m, err
		}
		switch object := object.(type) {
		case *corev1.Service:
			m.services[object.Name] = object
		case *appsv1.StatefulSet:
			m.nodes = object
		case *policyv1.PodDisruptionBudget:
			m.budget = object
		}
	}
	return m, nil
}

func read(t *testing.T, name string) string {
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(text)
}
