package demo_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/demo"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/policy"
)

func stage(t *testing.T, o demo.Options) *demo.Stage {
	t.Helper()
	o.Accounts, o.Instances, o.Start = 12, 300, time.Date(2026, 3, 9, 8, 0, 0, 0, time.UTC)
	for _, e := range all.List() {
		o.Kinds = append(o.Kinds, e.Kind)
	}
	s, err := demo.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The stage's configuration is a whole one: no problem, every account in a wave, the regions those with workloads.
func TestConfigFitsTheStage(t *testing.T) {
	s := stage(t, demo.Options{})
	config, bad := policy.Parse([]byte(s.Config()), "demo.yaml", []string{"ec2-instance", "launch-template"})
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	waves := map[int]bool{}
	for _, a := range s.World.Accounts() {
		p, err := config.WaveOf(policy.AccountFacts{ID: a.ID, Name: a.Name, Tags: a.Tags})
		if err != nil {
			t.Fatal(err)
		}
		waves[p.Index] = true
	}
	if len(waves) != len(config.Waves) {
		t.Errorf("accounts in %d of %d waves", len(waves), len(config.Waves))
	}
	if len(config.Organization.Regions) != len(s.Summary.Regions) || len(s.Summary.Regions) != 4 {
		t.Errorf("regions %v, on the stage %v", config.Organization.Regions, s.Summary.Regions)
	}
	if expired := config.Expired(s.Clock.Now()); len(expired) > 0 {
		t.Error(expired)
	}
}

// Every account has the roles, and they ask for the external id.
func TestRolesAreDeployed(t *testing.T) {
	s := stage(t, demo.Options{})
	for _, a := range s.Summary.Accounts {
		for _, name := range []string{policy.DefaultReadRole, policy.DefaultWriteRole} {
			r, ok := s.World.Role(a, name)
			if !ok || !strings.Contains(r.Trust.Source(), demo.ExternalID) {
				t.Errorf("account %s: role %s is there: %t", a, name, ok)
			}
		}
	}
}

// Whoever calls v1 is named with a fix, for the asked instances only.
func TestCallersAreNamedWithAFix(t *testing.T) {
	s := stage(t, demo.Options{})
	asked := map[fleet.Ref]bool{}
	if got := s.Callers(asked); len(got) != 0 {
		t.Errorf("of no instance: %v", got)
	}
	for _, p := range s.World.Places() {
		for _, b := range instances(s, p.Place) {
			asked[b] = true
		}
	}
	got := s.Callers(asked)
	byApp := map[string]demo.Caller{}
	for i, c := range got {
		byApp[c.App+"/"+c.Program] = c
		if c.Fix == "" || c.Instances == 0 || c.Accounts == 0 || i > 0 && c.Instances > got[i-1].Instances {
			t.Errorf("caller %d: %+v", i, c)
		}
	}
	if c := byApp["billing-batch/billing-batch"]; c.SDK != "boto3 1.9.2" || c.Fix != "upgrade to 1.12.6" {
		t.Errorf("billing-batch: %+v", c)
	}
	if c := byApp["image-resizer/resizer"]; c.Fix != "hop limit 2" {
		t.Errorf("image-resizer: %+v", c)
	}
}

// The surprise breaks only where tokens are required by the time of its run, and is told with its program and its fix.
func TestBrokenNowFindsTheSurprise(t *testing.T) {
	s := stage(t, demo.Options{SurpriseAfter: 2 * time.Hour})
	account, region, group := surprise(t, s)
	place := fleet.Place{Partition: "aws", Account: account, Region: region}
	if !s.Surprising(account, group) || s.Surprising(account, "payments-api-dev") {
		t.Error("the surprise is not known by its name")
	}
	for _, ref := range instances(s, place) {
		require(t, s, ref)
	}
	before := s.BrokenNow(place)
	s.Clock.SetRate(1e6)
	for s.Clock.Now().Before(s.Started.Add(3 * time.Hour)) {
		if err := s.Clock.Sleep(t.Context(), 10*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	s.Clock.SetRate(1)
	found := 0
	for _, b := range s.BrokenNow(place) {
		if b.Group != group {
			continue
		}
		found++
		if b.Program != "archive-reports" || b.SDK != "boto3 1.9.2" || b.Fix != "upgrade to 1.12.6" || b.Why == "" || !b.Impaired {
			t.Errorf("%+v", b)
		}
	}
	if found == 0 {
		t.Errorf("nothing of %s broke; before: %v", group, before)
	}
	for _, b := range before {
		if b.Group == group {
			t.Errorf("broken before its time: %+v", b)
		}
	}
}

func surprise(t *testing.T, s *demo.Stage) (fleet.AccountID, fleet.Region, string) {
	t.Helper()
	name := strings.Split(s.Summary.Surprises[0], "/")
	for id, n := range s.Names() {
		if n == name[0] {
			return id, fleet.Region(name[1]), name[2]
		}
	}
	t.Fatalf("no account %s", name[0])
	return "", "", ""
}

// call makes one EC2 call as the account's administrator.
func call(t *testing.T, s *demo.Stage, place fleet.Place, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://sim",
		strings.NewReader(body+"&Version=2016-11-15"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+string(place.Account)+"/20260101/"+string(place.Region)+
		"/ec2/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v %s", body, resp.Status, err, b)
	}
	return string(b)
}

func instances(s *demo.Stage, place fleet.Place) []fleet.Ref {
	var out []fleet.Ref
	for ref := range s.Instances(place) {
		out = append(out, ref)
	}
	return out
}

func require(t *testing.T, s *demo.Stage, ref fleet.Ref) {
	t.Helper()
	call(t, s, ref.Place, "Action=ModifyInstanceMetadataOptions&HttpEndpoint=enabled&HttpTokens=required&InstanceId="+ref.ID)
}

func TestSeedsAreChecked(t *testing.T) {
	for _, seed := range []string{"", "{", `{"acounts": []}`, `{"accounts": [{"id": "12"}]}`} {
		if _, err := demo.FromSeed([]byte(seed), time.Now(), 1); err == nil {
			t.Errorf("seed %q is taken", seed)
		}
	}
	seed, err := os.ReadFile("../cli/testdata/seed.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := demo.FromSeed(seed, time.Now(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if s.Summary.Management != "111111111111" || len(s.Summary.Accounts) != 2 || len(s.Summary.Regions) != 1 {
		t.Errorf("%+v", s.Summary)
	}
}

func TestServesOverHTTP(t *testing.T) {
	s := stage(t, demo.Options{})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/_sim/operations")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var operations any
	if err := json.NewDecoder(resp.Body).Decode(&operations); err != nil || operations == nil {
		t.Errorf("%v: %v", operations, err)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
