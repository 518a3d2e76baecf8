package followup_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ssm"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/followup"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

const (
	instance = "i-0123456789abcdef0"
	other    = "i-0123456789abcdef1"
	stopped  = "i-0123456789abcdef2"
)

var (
	here  = fleet.Place{Partition: fleet.PartitionAWS, Account: "111122223333", Region: "eu-west-1"}
	start = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
)

// site is a simulated account with three instances, and a driver at work in it.
type site struct {
	*awssim.World
	clock *clock.Manual
	place *core.Place
	kind.Driver
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{clock: clock.NewManual(start)}
	s.World = awssim.New(awssim.Options{Clock: s.clock, Seed: 3})
	section := `{"images": [{"id": "ami-0123456789abcdef0"}], "instances": [
		{"id": "i-0123456789abcdef0", "image": "ami-0123456789abcdef0"},
		{"id": "i-0123456789abcdef1", "image": "ami-0123456789abcdef0"},
		{"id": "i-0123456789abcdef2", "image": "ami-0123456789abcdef0", "state": "stopped"}]}`
	err := s.LoadSeed(&core.Seed{Accounts: []core.AccountSeed{{ID: here.Account,
		Regions: map[fleet.Region]map[string]json.RawMessage{here.Region: {"ec2": json.RawMessage(section)}}}}})
	if err == nil {
		s.place, err = s.Place(here.Account, here.Region)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.restart(t, awsx.Role{})
	return s
}

// restart forgets what is in memory, as a new process would.
func (s *site) restart(t testing.TB, role awsx.Role) {
	t.Helper()
	edge, err := awsx.New(t.Context(), awsx.Options{
		Clock: s.clock, Share: 1, MaxAttempts: 3, Jitter: func() float64 { return 0.5 },
		Load: func(context.Context) (aws.Config, error) {
			return aws.Config{
				Region: string(here.Region), BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: s.Client(),
				Credentials: credentials.NewStaticCredentialsProvider(string(here.Account), "secret", ""),
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Driver = followup.NewRunner(nil).Open(edge.Session(here, role).Config(), here, s.clock)
}

func (s *site) fault(t testing.TB, f core.Fault) {
	t.Helper()
	if _, err := s.AddFault(f); err != nil {
		t.Fatal(err)
	}
}

// runs lists what ran on the instance for the follow-up.
func (s *site) runs(w kind.Write) (out []ssm.Run) {
	for _, r := range ssm.Runs(s.place, w.Params[plan.ParamInstance]) {
		if strings.HasPrefix(r.Comment, "imdsctl ") {
			out = append(out, r)
		}
	}
	return out
}

// status is what a read tells: the state's one field, with a star while it settles.
func (s *site) status(t testing.TB, w kind.Write) string {
	t.Helper()
	r, err := s.Read(t.Context(), w.ID)
	return shown(t, w, r, err)
}

// statusFor is status as whoever knows the change reads it.
func (s *site) statusFor(t testing.TB, w kind.Write) string {
	t.Helper()
	r, err := s.Driver.(interface {
		ReadFor(context.Context, kind.Write) (inventory.Resource, error)
	}).ReadFor(t.Context(), w)
	return shown(t, w, r, err)
}

func shown(t testing.TB, w kind.Write, r inventory.Resource, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if r.Ref != (fleet.Ref{Place: here, Kind: "follow-up", ID: w.ID}) || r.State == nil || len(r.State) > 1 {
		t.Errorf("read as %+v", r)
	}
	if r.Settling {
		return r.State["status"] + "*"
	}
	return r.State["status"]
}

// ssmWrite restarts the shop on the first instance.
func ssmWrite(more ...map[string]string) kind.Write {
	return write(plan.ActionSSM, append([]map[string]string{{
		"document": "AWS-RunShellScript", "parameters": `{"commands":["systemctl restart shop"]}`,
	}}, more...)...)
}

func write(verb string, params ...map[string]string) kind.Write {
	w := kind.Write{
		Place: here, ID: fmt.Sprintf("%s/restart shop/%d", instance, start.Unix()), Verb: verb,
		Before: fleet.State{}, After: fleet.State{"status": "done"},
		Params: map[string]string{"instance": instance, "name": "restart shop"},
		Token:  "imdsctl-0123456789abcdef01234567", Marker: "imdsctl-0123456789abcdef01234567",
	}
	for _, p := range params {
		maps.Copy(w.Params, p)
	}
	return w
}
