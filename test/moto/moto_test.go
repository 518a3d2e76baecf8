package moto

import (
	"maps"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// checkSeed checks that the server holds what the manifest says, read by the AWS CLI, and that the manifest covers all that
// a migration is judged by.
func checkSeed(t *testing.T, s *Server, m *Manifest) {
	t.Helper()
	want := map[string]fleet.Options{}
	verdicts := map[string]int{}
	for _, i := range m.Instances {
		verdicts[i.Verdict]++
		if i.State != "terminated" {
			want[i.ID] = i.Options
		}
	}
	places := len(m.Accounts) * len(m.Regions)
	if places != 6 {
		t.Errorf("seeded %d places, want 3 accounts in 2 regions", places)
	}
	perPlace := map[string]int{"ready": 8, "blocked": 4, "unknown": 3, "exempt": 2, "done": 3, "": 1}
	for verdict, n := range perPlace {
		if verdicts[verdict] != n*places {
			t.Errorf("the manifest has %d instances to be %q, want %d", verdicts[verdict], verdict, n*places)
		}
	}
	if got := s.Instances(t, m); !maps.Equal(got, want) {
		t.Errorf("moto holds %d instances, the manifest %d, or they differ:\n got %v\nwant %v", len(got), len(want), got, want)
	}
	checkOrganization(t, s, m)
	checkHistory(t, s, m)
}

func checkOrganization(t *testing.T, s *Server, m *Manifest) {
	t.Helper()
	var accounts []fleet.AccountID
	s.CLI(t, m, m.Management, "us-east-1", &accounts, "organizations", "list-accounts", "--query", "Accounts[].Id")
	if len(accounts) != len(m.Accounts) {
		t.Errorf("the organization has %v, the manifest %v", accounts, m.Accounts)
	}
	for _, g := range m.Groups {
		if len(g.Instances) == 0 {
			t.Errorf("group %s of %s in %s has no instances", g.Name, g.Account, g.Region)
		}
	}
	if len(m.Groups) != 4*len(m.Accounts)*len(m.Regions) || len(m.Templates) != 3*len(m.Accounts)*len(m.Regions) {
		t.Errorf("the manifest has %d groups and %d templates", len(m.Groups), len(m.Templates))
	}
}

// checkHistory reads the metric of one instance of each history, in the last place that was seeded.
func checkHistory(t *testing.T, s *Server, m *Manifest) {
	t.Helper()
	const hours = 14 * 24
	last := m.Instances[len(m.Instances)-1]
	for name, want := range map[string]struct{ points, calls int }{
		"ready-hop1":  {hours, 0},
		"legacy-once": {hours, 1},
		"half-seen":   {hours / 2, 0},
		"never-seen":  {0, 0},
	} {
		for _, i := range m.Instances {
			if i.Name != name || i.Account != last.Account || i.Region != last.Region {
				continue
			}
			var sums []float64
			s.CLI(t, m, i.Account, i.Region, &sums, "cloudwatch", "get-metric-statistics", "--namespace", "AWS/EC2",
				"--metric-name", "MetadataNoToken", "--dimensions", "Name=InstanceId,Value="+i.ID, "--period", "3600",
				"--statistics", "Sum", "--start-time", m.FirstHour.Format("2006-01-02T15:04:05Z"),
				"--end-time", m.FirstHour.Add(hours*3600e9).Format("2006-01-02T15:04:05Z"), "--query", "Datapoints[].Sum")
			calls := 0
			for _, n := range sums {
				calls += int(n)
			}
			if len(sums) != want.points || calls != want.calls {
				t.Errorf("%s has %d points and %d calls, want %d and %d", name, len(sums), calls, want.points, want.calls)
			}
		}
	}
}
