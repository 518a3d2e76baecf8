package workspacesinstances_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/workspacesinstances"
)

// world has thirty instances, every fifth without a machine.
func world(t *testing.T) *core.World {
	t.Helper()
	var seeds []string
	for n := range 30 {
		seed := fmt.Sprintf(`{"id": "wsinst-%010d", "instance": "i-%017x"}`, n, n)
		if n%5 == 0 {
			seed = fmt.Sprintf(`{"id": "wsinst-%010d", "state": "DEALLOCATED", "billing": "MONTHLY"}`, n)
		}
		seeds = append(seeds, seed)
	}
	w := core.New(core.Options{Unthrottled: true}, workspacesinstances.Service())
	err := w.Load([]byte(`{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"workspaces-instances":
		{"instances": [` + strings.Join(seeds, ",") + `]}}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// call speaks awsJson1_0; signatures are not verified.
func call(t *testing.T, w *core.World, operation, body string) (status int, out map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, core.BaseURL+"/", bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "EUCMIFrontendAPIService."+operation)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=111122223333/20260302/eu-west-1/workspaces-instances/aws4_request, "+
		"SignedHeaders=host, Signature=0")
	response, err := w.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return response.StatusCode, out
}

func TestPages(t *testing.T) {
	w := world(t)
	var ids []string
	body := `{"MaxResults": 7}`
	for range 10 {
		_, out := call(t, w, "ListWorkspaceInstances", body)
		for _, i := range out["WorkspaceInstances"].([]any) {
			ids = append(ids, i.(map[string]any)["WorkspaceInstanceId"].(string))
		}
		token, more := out["NextToken"].(string)
		if !more {
			break
		}
		body = `{"MaxResults": 7, "NextToken": "` + token + `"}`
	}
	if len(ids) != 30 || len(slices.Compact(slices.Sorted(slices.Values(ids)))) != 30 {
		t.Errorf("pages gave %q", ids)
	}
	_, out := call(t, w, "ListWorkspaceInstances", `{"ProvisionStates": ["DEALLOCATED"]}`)
	if n := len(out["WorkspaceInstances"].([]any)); n != 6 {
		t.Errorf("%d are deallocated", n)
	}
	_, one := call(t, w, "GetWorkspaceInstance", `{"WorkspaceInstanceId": "wsinst-0000000001"}`)
	if one["ProvisionState"] != "ALLOCATED" || one["EC2ManagedInstance"].(map[string]any)["InstanceId"] != "i-00000000000000001" {
		t.Errorf("got %v", one)
	}
}

func TestRefusals(t *testing.T) {
	w := world(t)
	for _, tt := range [][3]string{
		{"ListWorkspaceInstances", `{"MaxResults": 26}`, "ValidationException"},
		{"ListWorkspaceInstances", `{"NextToken": "x"}`, "ValidationException"},
		{"ListWorkspaceInstances", `{"ProvisionStates": ["GONE"]}`, "ValidationException"},
		{"GetWorkspaceInstance", `{"WorkspaceInstanceId": "i-1"}`, "ValidationException"},
		{"GetWorkspaceInstance", `{"WorkspaceInstanceId": "wsinst-9999999999"}`, "ResourceNotFoundException"},
	} {
		status, out := call(t, w, tt[0], tt[1])
		if code, _ := out["__type"].(string); status != 400 || !strings.HasSuffix(code, tt[2]) {
			t.Errorf("%s %s: %d %v", tt[0], tt[1], status, out)
		}
	}
}

func TestSeedsThatMakeNoSense(t *testing.T) {
	for _, seed := range []string{
		`{"id": "wsinst-1"}`, `{"id": "wsinst-12345678", "state": "GONE"}`, `{"id": "wsinst-12345678", "billing": "DAILY"}`,
		`{"id": "wsinst-12345678"}, {"id": "wsinst-12345678"}`,
	} {
		w := core.New(core.Options{}, workspacesinstances.Service())
		if err := w.Load([]byte(`{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"workspaces-instances":
			{"instances": [` + seed + `]}}}}]}`)); err == nil {
			t.Errorf("%s was taken", seed)
		}
	}
}
