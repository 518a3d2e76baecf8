package imds

import (
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/test/python"
)

// botoScript gets the role's credentials as every program of boto3 does, and what else botocore asks the service for.
const botoScript = `
import json, os, botocore.session, botocore.utils
s = botocore.session.get_session()
c = s.get_credentials()
region = botocore.utils.InstanceMetadataRegionFetcher(base_url=os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] + "/")
print(json.dumps({"method": c.method, "key": c.access_key, "region": region.retrieve_region()}))
`

// botoV1Only is botocore as it was before it knew tokens: it asks for credentials without one.
const botoV1Only = `
import json, botocore.session, botocore.utils
botocore.utils.InstanceMetadataFetcher._fetch_metadata_token = lambda self: None
s = botocore.session.get_session()
c = s.get_credentials()
print(json.dumps({"method": c.method if c else "", "key": c.access_key if c else "", "region": "us-east-1"}))
`

// client is a program that looks for credentials, and what is to be expected of it.
type client struct {
	tokens, name, version string
	command               []string
	gets                  bool
}

// TestSDKs has boto3's botocore and the AWS CLI get credentials where v1 is allowed and where it is not, and a botocore that knows no
// tokens, which must fail there and nowhere else.
func TestSDKs(t *testing.T) {
	interpreter, aws := python.Need(t, "python"), python.Need(t, "aws")
	for _, c := range []client{
		{"optional", "botocore", "v2", []string{interpreter, "-c", botoScript}, true},
		{"required", "botocore", "v2", []string{interpreter, "-c", botoScript}, true},
		{"optional", "botocore without tokens", "v1", []string{interpreter, "-c", botoV1Only}, true},
		{"required", "botocore without tokens", "v1", []string{interpreter, "-c", botoV1Only}, false},
		{"optional", "AWS CLI", "v2", []string{aws, "configure", "list"}, true},
		{"required", "AWS CLI", "v2", []string{aws, "configure", "list"}, true},
	} {
		t.Run(c.name+", tokens "+c.tokens, func(t *testing.T) {
			s := start(t, nil, "--listen", "127.0.0.1:0", "--tokens", c.tokens, "--role", "web")
			cmd := exec.CommandContext(t.Context(), c.command[0], c.command[1:]...)
			cmd.Env = []string{
				"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + s.URL, "AWS_METADATA_SERVICE_NUM_ATTEMPTS=2",
				"AWS_CONFIG_FILE=" + filepath.Join(t.TempDir(), "none"), "AWS_SHARED_CREDENTIALS_FILE=" + filepath.Join(t.TempDir(), "none"),
			}
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			// The CLI shows the last four letters of a key and where it is from.
			if has := regexp.MustCompile(`"key": "ASIAIMDSCTLFAKE|access_key .* iam-role`).Match(out); has != c.gets {
				t.Errorf("it has credentials: %v, want %v: %s", has, c.gets, out)
			}
			if c.name == "botocore" && !strings.Contains(string(out), `"region": "us-east-1"`) {
				t.Errorf("it reads no region: %s", out)
			}
			s.end(t)
			c.judge(t, s.calls)
		})
	}
}

// judge holds the log to what the client is: one of version 2 asks for a token once and uses it again, one of version 1 never asks.
func (c client) judge(t *testing.T, calls []call) {
	t.Helper()
	tokens, used, handed := 0, map[string]int{}, 0
	for _, call := range calls {
		if call.Version != c.version || call.UserAgent == "" {
			t.Errorf("%+v is no call of %s with a user agent", call, c.version)
		}
		if call.Method == http.MethodPut && call.Status == 200 {
			tokens++
		} else if call.TokenID != "" {
			used[call.TokenID]++
		}
		if call.Credentials {
			handed++
		}
	}
	if handed > 0 != c.gets || len(calls) == 0 {
		t.Errorf("credentials were handed out %d times in %d calls", handed, len(calls))
	}
	if c.version == "v1" && tokens+len(used) > 0 || c.version == "v2" && (tokens == 0 || len(used) != tokens) {
		t.Errorf("%d tokens were given, and %v were used", tokens, used)
	}
	if c.version == "v2" && !slices.ContainsFunc(slices.Collect(maps.Values(used)), func(n int) bool { return n > 1 }) {
		t.Errorf("no token was used again: %v", used)
	}
}
