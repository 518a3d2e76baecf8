package programs_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const account = "111122223333"

const seed = `{
	"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {
		"ec2": {
			"images": [{"id": "ami-0123456789abcdef0"}],
			"templates": [{"name": "web", "versions": [{"data": {"ImageId": "ami-0123456789abcdef0"}}]}],
			"instances": [
				{"id": "i-0123456789abcdef0", "image": "ami-0123456789abcdef0", "tags": {"app": "old"}},
				{"id": "i-0123456789abcdef1", "image": "ami-0123456789abcdef0", "tags": {"app": "new"}}]},
		"autoscaling": {"groups": [{"name": "web", "template": "web", "max": 5, "desired": 2}]}}}}],
	"services": {"workload": {"programs": [
		{"name": "billing", "agent": "boto3", "version": "1.9.2", "speaks": "v1-only", "every": "10m", "essential": true,
			"impaired_after": "5m", "where": {"tags": ["app=old"]}},
		{"name": "web", "speaks": "v2-only", "every": "10m", "extra_hops": 1, "where": {"templates": ["web"]}},
		{"name": "modern", "speaks": "v2-then-v1", "every": "1h", "where": {"tags": ["app=new"]}}]}}}`

func world(t *testing.T) (*core.World, *clock.Manual, *ec2.Client) {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	w := awssim.New(awssim.Options{Clock: c, Unthrottled: true})
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	return w, c, ec2.New(ec2.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", ""),
	})
}

func health(t *testing.T, w *core.World) programs.Report {
	t.Helper()
	resp, body := ask(t, w, http.MethodGet, "/_sim/health", "")
	var r programs.Report
	if resp != http.StatusOK || json.Unmarshal([]byte(body), &r) != nil {
		t.Fatalf("%d %s", resp, body)
	}
	return r
}

func ask(t *testing.T, w *core.World, method, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, awssim.BaseURL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(out)
}

func TestHealthFollowsTheOptions(t *testing.T) {
	w, c, client := world(t)
	c.Advance(time.Hour)
	r := health(t, w)
	if r.Instances != 4 || len(r.Broken) != 2 {
		t.Fatalf("%+v: want four instances, and web broken on two behind hop limit 1", r)
	}
	for _, b := range r.Broken {
		if b.Program != "web" || b.Group != "web" || b.Reason != "hop-limit" || !strings.Contains(b.Why, "hop limit of 2") {
			t.Errorf("%+v", b)
		}
	}
	modify := func(id string, tokens types.HttpTokensState) {
		if _, err := client.ModifyInstanceMetadataOptions(t.Context(), &ec2.ModifyInstanceMetadataOptionsInput{
			InstanceId: &id, HttpTokens: tokens, HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
		}); err != nil {
			t.Fatal(err)
		}
	}
	status := func(id string) types.SummaryStatus {
		out, err := client.DescribeInstanceStatus(t.Context(), &ec2.DescribeInstanceStatusInput{InstanceIds: []string{id}})
		if err != nil || len(out.InstanceStatuses) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		return out.InstanceStatuses[0].InstanceStatus.Status
	}
	old, modern := "i-0123456789abcdef0", "i-0123456789abcdef1"
	modify(old, types.HttpTokensStateRequired)
	modify(modern, types.HttpTokensStateRequired)
	c.Advance(20 * time.Minute)
	found := map[string]programs.Broken{}
	for _, b := range health(t, w).Broken {
		found[b.Instance] = b
	}
	if b := found[old]; b.Program != "billing" || b.Agent != "boto3" || b.Version != "1.9.2" || !b.Impaired || b.Reason != "v1-refused" {
		t.Errorf("%+v, want billing broken", b)
	}
	if b, ok := found[modern]; ok {
		t.Errorf("%+v: a modern program should not break", b)
	}
	if a, b := status(old), status(modern); a != types.SummaryStatusImpaired || b != types.SummaryStatusOk {
		t.Errorf("status checks %s and %s, want impaired and ok", a, b)
	}
	modify(old, types.HttpTokensStateOptional)
	c.Advance(20 * time.Minute)
	if s := status(old); s != types.SummaryStatusOk {
		t.Errorf("status %s after the change was taken back, want ok", s)
	}
	if n := len(health(t, w).Broken); n != 2 {
		t.Errorf("%d broken after the change was taken back, want the two of web", n)
	}
}

func TestControls(t *testing.T) {
	w, c, client := world(t)
	c.Advance(time.Minute)
	post := func(path, body string, want int) string {
		t.Helper()
		status, out := ask(t, w, http.MethodPost, path, body)
		if status != want {
			t.Errorf("%s %s: %d %s, want %d", path, body, status, out, want)
		}
		return out
	}
	running := func() (ids []string) {
		out, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{Filters: []types.Filter{
			{Name: aws.String("tag:aws:autoscaling:groupName"), Values: []string{"web"}},
			{Name: aws.String("instance-state-name"), Values: []string{"running"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range out.Reservations {
			for _, i := range r.Instances {
				ids = append(ids, *i.InstanceId)
			}
		}
		return ids
	}
	place := `"account": "111122223333", "region": "eu-west-1"`
	post("/_sim/scale", `{`+place+`, "group": "web", "desired": 4}`, http.StatusNoContent)
	c.Advance(time.Minute)
	before := running()
	if len(before) != 4 {
		t.Fatalf("%d running after scaling to 4", len(before))
	}
	post("/_sim/terminate", `{`+place+`, "instance": "`+before[0]+`"}`, http.StatusNoContent)
	c.Advance(time.Minute)
	if after := running(); len(after) != 4 || strings.Contains(strings.Join(after, " "), before[0]) {
		t.Errorf("running %v after %s was terminated", after, before[0])
	}
	post("/_sim/programs", `{"name": "late", "speaks": "v2-only", "extra_hops": 3, "every": "1m", "where": {"groups": ["web"]}}`,
		http.StatusNoContent)
	c.Advance(2 * time.Minute)
	late := 0
	for _, b := range health(t, w).Broken {
		if b.Program == "late" {
			late++
		}
	}
	if late != 4 {
		t.Errorf("the late program is broken on %d instances, want 4", late)
	}
	for path, bodies := range map[string][]string{
		"/_sim/scale":     {`{}`, `{` + place + `, "group": "none", "desired": 1}`, `{"acount": "1"}`, `x`},
		"/_sim/terminate": {`{` + place + `, "instance": "i-none"}`, `{"account": "999999999999", "region": "eu-west-1"}`},
		"/_sim/programs":  {`{"name": "x", "speaks": "v3", "where": {"tags": ["a=b"]}}`, `{"name": "x", "speaks": "v1-only", "every": "often"}`},
	} {
		for _, body := range bodies {
			if out := post(path, body, http.StatusBadRequest); out == "" {
				t.Errorf("%s %s: no message", path, body)
			}
		}
	}
}

func TestSeedErrorsNameTheirPlace(t *testing.T) {
	tests := []struct{ from, to, want string }{
		{`"speaks": "v1-only"`, `"speaks": "v4"`, "seed.services.workload.programs[0]"},
		{`"every": "1h"`, `"every": "often"`, "seed.services.workload.programs[2]"},
		{`"templates": ["web"]`, `"template": "web"`, "seed.services.workload.programs[1].where.template"},
	}
	for _, tt := range tests {
		err := awssim.New(awssim.Options{}).Load([]byte(strings.Replace(seed, tt.from, tt.to, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.to, err, tt.want)
		}
	}
}

// FuzzSeed feeds the seed's section with any JSON: it must load or explain, never panic.
func FuzzSeed(f *testing.F) {
	f.Add(`{"programs": [{"name": "a", "speaks": "v1-only", "every": "1h", "where": {"tags": ["a=b"]}}]}`)
	f.Add(`{"programs": [{"name": "a", "speaks": "v2-only", "every": "-1h", "anchor": "2026-01-01T00:00:00Z"}]}`)
	f.Fuzz(func(t *testing.T, section string) {
		w := core.New(core.Options{}, programs.Service())
		err := w.LoadSeed(&core.Seed{Services: map[string]json.RawMessage{"workload": json.RawMessage(section)}})
		if err != nil && !strings.Contains(err.Error(), "workload") {
			t.Errorf("the error does not say where: %v", err)
		}
	})
}
