package checks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
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

// Prometheus' own package for its file needs the SDKs of all clouds, so this has
// the few fields that are used.
func TestPrometheusConfig_ScrapesTheNodesAndHasTheRules(t *testing.T) {
	var config struct {
		Global struct {
			ScrapeInterval model.Duration `yaml:"scrape_interval"`
		} `yaml:"global"`
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string `yaml:"job_name"`
			StaticConfigs []struct {
				Targets []string          `yaml:"targets"`
				Labels  map[string]string `yaml:"labels"`
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	decoder := yaml.NewDecoder(strings.NewReader(read(t, deploy+"prometheus.yml")))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&config))
	require.NotZero(t, config.Global.ScrapeInterval)

	project, err := parseCompose(t, read(t, deploy+"compose.yaml"))
	require.NoError(t, err)
	mounted := make(map[string]string)
	for _, volume := range project.Services["prometheus"].Volumes {
		mounted[filepath.Base(volume.Target)] = volume.Source
	}
	for _, rules := range config.RuleFiles {
		require.FileExists(t, mounted[rules])
	}
	targets := config.ScrapeConfigs[0].StaticConfigs[0].Targets
	require.Len(t, targets, 3)
	for _, target := range targets {
		host, _, _ := strings.Cut(target, ":")
		require.Contains(t, project.Services, host)
	}
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

func TestCertificates_KeepTheirSchemaAndFitTheNodes(t *testing.T) {
	text := read(t, deploy+"certificates.yaml")
	m, err := parseKubernetes(text)
	require.NoError(t, err)
	for field, typo := range map[string]string{"dnsNames": "dnsName", "renewBefore": "renewbefore", "selfSigned": "selfsigned"} {
		_, err = parseKubernetes(strings.Replace(text, field, typo, 1))
		require.ErrorContains(t, err, "unknown field", typo)
	}
	nodes, err := parseKubernetes(read(t, deploy+"kubernetes.yaml"))
	require.NoError(t, err)
	certificate := m.certificates[nodes.nodes.Spec.Template.Spec.Volumes[0].Secret.SecretName]
	require.Equal(t, []string{"kvnode"}, certificate.Spec.DNSNames)
	require.Contains(t, certificate.Spec.Usages, certmanagerv1.UsageServerAuth)
	require.Contains(t, certificate.Spec.Usages, certmanagerv1.UsageClientAuth)
	issuer := m.issuers[certificate.Spec.IssuerRef.Name]
	ca := m.certificates[issuer.Spec.CA.SecretName]
	require.True(t, ca.Spec.IsCA)
	require.NotNil(t, m.issuers[ca.Spec.IssuerRef.Name].Spec.SelfSigned)
}

// manifest is what kubernetes.yaml and certificates.yaml have.
type manifest struct {
	services map[string]*corev1.Service
	nodes    *appsv1.StatefulSet
	budget   *policyv1.PodDisruptionBudget

	certificates map[string]*certmanagerv1.Certificate // by their secrets
	issuers      map[string]*certmanagerv1.Issuer
}

func parseKubernetes(text string) (m manifest, err error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme, certmanagerv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return m, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	m.services = make(map[string]*corev1.Service)
	m.certificates = make(map[string]*certmanagerv1.Certificate)
	m.issuers = make(map[string]*certmanagerv1.Issuer)
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
		case *certmanagerv1.Certificate:
			m.certificates[object.Spec.SecretName] = object
		case *certmanagerv1.Issuer:
			m.issuers[object.Name] = object
		}
	}
	return m, nil
}

func read(t *testing.T, name string) string {
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(text)
}
