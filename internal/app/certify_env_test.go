package app

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/imdsctl/imdsctl/internal/certify"
)

// TestCertifyEnvironment is the table of what is taken from a command's environment.
func TestCertifyEnvironment(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".aws"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(home, ".aws", "config")
	if err := os.WriteFile(config, []byte("[default]\nregion = eu-west-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	homes := "HOME=" + home
	if os.PathSeparator == '\\' {
		homes = "USERPROFILE=" + home
	}
	for _, c := range []struct {
		name    string
		env     []string
		policy  environmentPolicy
		want    []string
		changes []certify.Change
	}{
		{"nothing to take", []string{"A=1", "AWS_REGION=x"}, environmentPolicy{files: true}, []string{"A=1", "AWS_REGION=x"}, nil},
		{"a profile", []string{"AWS_PROFILE=x", "A=1"}, environmentPolicy{}, []string{"A=1"}, []certify.Change{{Name: "AWS_PROFILE", What: envRemoved}}},
		{"a profile, kept", []string{"AWS_PROFILE=x", "A=1"}, environmentPolicy{keep: true}, []string{"AWS_PROFILE=x", "A=1"},
			[]certify.Change{{Name: "AWS_PROFILE", What: envKept}}},
		{"a file", []string{homes}, environmentPolicy{files: true}, []string{homes, "AWS_CONFIG_FILE=" + os.DevNull},
			[]certify.Change{{Name: config, What: envHidden}}},
		{"a file of an image", []string{homes}, environmentPolicy{}, []string{homes}, nil},
		{"a file, kept", []string{homes}, environmentPolicy{files: true, keep: true}, []string{homes}, []certify.Change{{Name: config, What: envKept}}},
		{"a proxy that is out of reach", []string{"https_proxy=p", "http_proxy=p", "HTTP_PROXY=p"}, environmentPolicy{}, []string{"https_proxy=p"},
			[]certify.Change{{Name: "http_proxy", What: envRemoved}, {Name: "HTTP_PROXY", What: envRemoved}}},
		{"a proxy within reach", []string{"http_proxy=p", "NO_PROXY=a"}, environmentPolicy{outside: true},
			[]string{"http_proxy=p", "no_proxy=" + serviceHosts, "NO_PROXY=a," + serviceHosts}, []certify.Change{{Name: "NO_PROXY", What: envSet}}},
		{"a proxy, kept", []string{"http_proxy=p"}, environmentPolicy{outside: true, keep: true}, []string{"http_proxy=p"},
			[]certify.Change{{Name: "http_proxy", What: envKept}}},
		{"another endpoint", []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://x", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6"},
			environmentPolicy{keep: true, endpoint: "http://127.0.0.1:1"}, []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1"},
			[]certify.Change{{Name: "AWS_EC2_METADATA_SERVICE_ENDPOINT", What: envKept}, {Name: "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", What: envKept},
				{Name: "AWS_EC2_METADATA_SERVICE_ENDPOINT", What: envSet}}},
	} {
		given := slices.Clone(c.env)
		got, changes := certifyEnvironment(c.env, c.policy)
		if !slices.Equal(got, c.want) || !slices.Equal(changes, c.changes) {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, got, changes, c.want, c.changes)
		}
		if !slices.Equal(given, c.env) {
			t.Errorf("%s: the environment that was handed in is changed: %q", c.name, c.env)
		}
	}
}
