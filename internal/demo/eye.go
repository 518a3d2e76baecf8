package demo

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Broken is a program that stopped working on an instance, as its owner would find out.
type Broken struct {
	Account  fleet.AccountID
	Region   fleet.Region
	Instance string
	Group    string
	Program  string
	SDK      string // "boto3 1.9.2"
	Since    time.Time
	Why      string
	Impaired bool // the instance's status check fails
	Fix      string
}

// BrokenNow lists what is broken in a place at this moment because of how its metadata options are set.
func (s *Stage) BrokenNow(place fleet.Place) []Broken {
	var out []Broken
	p, err := s.World.Place(place.Account, place.Region)
	if err != nil {
		return nil
	}
	p.View(func(now time.Time) {
		for i := range ec2.StoreOf(p).Instances() {
			h := programs.HostOf(p, i)
			if !h.Life.RunningAt(now.Unix()) {
				continue
			}
			for _, f := range h.Faults(now.Unix()) {
				out = append(out, Broken{
					Account: place.Account, Region: place.Region, Instance: i.ID(), Group: groupOf(i), Program: f.Program.Name,
					SDK: f.Program.Agent + " " + f.Program.Version, Since: f.Since, Why: f.Why, Impaired: f.Impaired,
					Fix: fix(f.Program, f.Reason),
				})
			}
		}
	})
	slices.SortStableFunc(out, func(a, b Broken) int { return a.Since.Compare(b.Since) })
	return out
}

func groupOf(i *ec2.Instance) string { return tag(i, "aws:autoscaling:groupName") }

func tag(i *ec2.Instance, key string) string {
	for _, t := range i.Newest().Tags {
		if t.Key == key {
			return t.Value
		}
	}
	return ""
}

// Caller is a program that calls IMDSv1 while that is allowed.
type Caller struct {
	App       string
	Program   string
	SDK       string
	Instances int
	Accounts  int
	Fix       string
}

// Callers lists the programs that call IMDSv1 on the given instances, the most common first: what CloudTrail's user
// agent, or a look at the host, would tell on a real fleet.
func (s *Stage) Callers(blocked map[fleet.Ref]bool) []Caller {
	type key struct{ app, program string }
	found, accounts := map[key]*Caller{}, map[key]map[fleet.AccountID]bool{}
	for _, p := range s.World.Places() {
		if p.Region == "" {
			continue
		}
		p.View(func(now time.Time) {
			for i := range ec2.StoreOf(p).Instances() {
				ref := fleet.Ref{Place: p.Place, Kind: "ec2-instance", ID: i.ID()}
				if !blocked[ref] {
					continue
				}
				h := programs.HostOf(p, i)
				for _, prog := range h.Programs {
					if !prog.Under(h.Life.SettingAt(now.Unix())).V1 {
						continue
					}
					k := key{tag(i, "app"), prog.Name}
					if found[k] == nil {
						found[k] = &Caller{App: k.app, Program: prog.Name, SDK: prog.Agent + " " + prog.Version,
							Fix: fix(prog, workload.V1Refused)}
						if prog.Speaks == workload.V2ThenV1 {
							found[k].Fix = fix(prog, workload.HopLimit)
						}
						accounts[k] = map[fleet.AccountID]bool{}
					}
					found[k].Instances++
					accounts[k][p.Account] = true
				}
			}
		})
	}
	out := make([]Caller, 0, len(found))
	for k, c := range found {
		c.Accounts = len(accounts[k])
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Caller) int {
		return cmp.Or(cmp.Compare(b.Instances, a.Instances), cmp.Compare(a.App, b.App), cmp.Compare(a.Program, b.Program))
	})
	return out
}

// fix says what helps a program that depends on IMDSv1.
func fix(p *workload.Program, r workload.Reason) string {
	if r == workload.HopLimit {
		return fmt.Sprintf("hop limit %d", 1+p.ExtraHops)
	}
	for _, v := range firstVersions() {
		if strings.HasPrefix(p.Agent, v.agent) && strings.HasPrefix(p.Version, v.line) {
			return "upgrade to " + v.version
		}
	}
	return "ask " + p.Agent + "'s maker for a version that speaks IMDSv2"
}

// firstVersion is the first version of an agent or SDK that speaks IMDSv2 by itself.
type firstVersion struct{ agent, line, version string }

// firstVersions are those of the programs in the scenario, from the EC2 user guide, "Use a supported AWS SDK", and the
// projects' own release notes.
func firstVersions() []firstVersion {
	return []firstVersion{
		{"boto3", "", "1.12.6"},
		{"aws-sdk-java-v2", "", "2.10.21"},
		{"aws-sdk-java", "1", "1.11.678"},
		{"aws-sdk-php", "", "3.147.7"},
		{"aws-sdk-ruby", "2", "2.11.401"},
		{"aws-tools-powershell", "", "4.0.1.0"},
		{"amazon-ssm-agent", "", "3.0.431.0"},
		{"datadog-agent", "", "7.64.0"},
		{"kube2iam", "", "0.11.2 or EKS Pod Identity"},
	}
}

// Instances goes through the running instances of a place.
func (s *Stage) Instances(place fleet.Place) iter.Seq[fleet.Ref] {
	return func(yield func(fleet.Ref) bool) {
		p, err := s.World.Place(place.Account, place.Region)
		if err != nil || place.Region == "" {
			return
		}
		var refs []fleet.Ref
		p.View(func(now time.Time) {
			for i := range ec2.StoreOf(p).Instances() {
				if programs.HostOf(p, i).Life.RunningAt(now.Unix()) {
					refs = append(refs, fleet.Ref{Place: p.Place, Kind: "ec2-instance", ID: i.ID()})
				}
			}
		})
		for _, ref := range refs {
			if !yield(ref) {
				return
			}
		}
	}
}
