package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/scenario"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// The organization of the benchmarks: 50 accounts with 4 regions in use, groups of twenty of which one member replaced
// another within the last twelve days.
const (
	accounts  = 50
	regions   = 4
	groupSize = 20
	replaced  = 1
)

// fleetShape is what a fleet is like.
type fleetShape struct {
	Instances, Past, Groups, Templates int
	Accounts                           []fleet.AccountID
	Regions                            []fleet.Region
}

// newFleet makes a world with a fleet and the roles that read and write it. Its token buckets are off unless limited: what is
// measured is work, not waiting. It has no latency.
func newFleet(instances, accounts, regions int, limited bool) (*awssim.World, fleetShape, error) {
	w := awssim.New(awssim.Options{Seed: 1, Unthrottled: !limited})
	sum, err := scenario.Fleet(w, scenario.FleetOptions{
		Seed: 1, Instances: instances, Accounts: accounts, Regions: regions, GroupSize: groupSize, Replaced: replaced,
	})
	if err != nil {
		return nil, fleetShape{}, err
	}
	trust := core.TrustAccount(sum.Management, "")
	everything := core.AllowActions("*") // the printed roles are tested where they are printed
	for _, a := range sum.Accounts {
		if err := errors.Join(w.PutRole(a, policy.DefaultReadRole, trust, everything),
			w.PutRole(a, policy.DefaultWriteRole, trust, everything)); err != nil {
			return nil, fleetShape{}, err
		}
	}
	return w, fleetShape{
		Instances: sum.Instances, Past: sum.Past, Groups: sum.Groups, Templates: sum.Templates, Accounts: sum.Accounts, Regions: sum.Regions,
	}, nil
}

// serveFleet is the simulator's process. It serves until its standard input ends, with its parent.
func serveFleet(j job) error {
	begun := time.Now()
	w, shape, err := newFleet(j.Instances, j.Accounts, regions, j.Limited)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	err = json.NewEncoder(os.Stdout).Encode(struct {
		fleetShape
		Endpoint string
		Built    time.Duration
	}{shape, "http://" + l.Addr().String(), time.Since(begun)})
	if err != nil {
		return err
	}
	return w.Serve(ctx, l)
}

// configuration is the imdsctl.yaml of the benchmarks; unless limited, with buckets that never are empty.
func configuration(in []fleet.Region, limited bool) *policy.Config {
	text := "version: 1\norganization: {discover: organizations, regions: [" + strings.Join(names(in), ", ") + "]}\n"
	c := parseConfig(text)
	if !limited {
		c.Limits.Actions = map[string]policy.Bucket{"*": {Burst: 1e9, Refill: 1e9}}
	}
	return c
}

func parseConfig(text string) *policy.Config {
	c, problems := policy.Parse([]byte(text), "imdsctl.yaml", nil)
	if c == nil {
		panic(fmt.Sprint(problems)) // of a text of these benchmarks
	}
	return c
}

func names(in []fleet.Region) []string {
	var out []string
	for _, r := range in {
		out = append(out, string(r))
	}
	return out
}

// calls counts AWS calls by service and action.
type calls map[string]int

// Page sizes of the API references.
const (
	instancesAPage  = 1000 // EC2 DescribeInstances
	templatesAPage  = 200  // EC2 DescribeLaunchTemplates and DescribeLaunchTemplateVersions
	groupsAPage     = 100  // Auto Scaling DescribeAutoScalingGroups
	activitiesAPage = 100  // Auto Scaling DescribeScalingActivities
	metricsACall    = 500  // CloudWatch GetMetricData: two metrics an instance, and 336 hourly points fill its page
	accountsAPage   = 20   // Organizations ListAccountsForParent
)

// required is the least number of calls that reads the fleet of newFleet, from what the fleet is made of and the page sizes.
func required(instances, accounts, regions int) calls {
	out := calls{
		"sts:GetCallerIdentity": 1,
		"sts:AssumeRole":        accounts,
		"ec2:DescribeRegions":   accounts,
		// The roles of each account, with their policies.
		"iam:GetAccountAuthorizationDetails": accounts,
		// The root with the management account, and one unit with all others.
		"organizations:ListRoots":                        1,
		"organizations:ListOrganizationalUnitsForParent": 2,
		"organizations:ListAccountsForParent":            1 + pages(accounts-1, accountsAPage),
		// Who manages it, and its policies of the two sorts that matter.
		"organizations:DescribeOrganization": 1,
		"organizations:ListPolicies":         2,
	}
	places := accounts * regions
	for i := range places {
		n := instances*(i+1)/places - instances*i/places
		groups := pages0(n-n/10, groupSize)
		out["ec2:DescribeInstances"] += pages(n, instancesAPage)
		out["ec2:DescribeLaunchTemplates"] += pages(groups, templatesAPage)
		// Every fifth template has a version after its default.
		out["ec2:DescribeLaunchTemplateVersions"] += pages(groups+pages0(groups, 5), templatesAPage)
		out["ec2:GetInstanceMetadataDefaults"]++
		out["autoscaling:DescribeAutoScalingGroups"] += pages(groups, groupsAPage)
		out["autoscaling:DescribeScalingActivities"] += pages(2*replaced*groups, activitiesAPage)
		out["cloudwatch:GetMetricData"] += pages0(2*(n+replaced*groups), metricsACall)
		out["elasticloadbalancing:DescribeLoadBalancers"] += 2 // one for each generation
		for _, action := range listed() {
			out[action]++
		}
	}
	return out
}

// listed are the calls by which a place tells that it has nothing else, and of its few images, on one page each.
func listed() []string {
	return []string{
		"appstream:DescribeAppBlockBuilders",
		"appstream:DescribeFleets",
		"appstream:DescribeImageBuilders",
		"autoscaling:DescribeLaunchConfigurations",
		"batch:DescribeComputeEnvironments",
		"ec2:DescribeFleets",
		"ec2:DescribeImages",
		"ec2:DescribeSecurityGroups",
		"ec2:DescribeSpotFleetRequests",
		"ecs:DescribeCapacityProviders",
		"ecs:ListClusters",
		"eks:ListClusters",
		"elasticbeanstalk:DescribeEnvironments",
		"elasticmapreduce:ListClusters",
		"elasticmapreduce:ListSecurityConfigurations",
		"imagebuilder:ListInfrastructureConfigurations",
		"lightsail:GetInstances",
		"sagemaker:ListNotebookInstances",
		"ssm:DescribeInstanceInformation",
		"workspaces-instances:ListWorkspaceInstances",
	}
}

// pages is how many calls list n things: an empty list takes one as well.
func pages(n, size int) int { return max(1, pages0(n, size)) }

func pages0(n, size int) int { return (n + size - 1) / size }

func (c calls) total() int {
	n := 0
	for _, k := range c {
		n += k
	}
	return n
}

// most is the number of calls above the required ones that a scan may make.
const most = 0.05

// compare writes a table of calls against the required ones, and fails where there are too many, or any of an unknown kind.
func compare(tb testing.TB, made, floor calls) float64 {
	tb.Helper()
	var table strings.Builder
	for _, action := range slices.Sorted(maps.Keys(made)) {
		if floor[action] == 0 {
			tb.Errorf("%d calls of %s, which reading the fleet does not take", made[action], action)
		}
		fmt.Fprintf(&table, "\n%-50s %8d calls, %8d required", action, made[action], floor[action])
	}
	for action, n := range floor {
		if made[action] < n {
			tb.Errorf("%d calls of %s cannot have read all: it takes %d", made[action], action, n)
		}
	}
	ratio := float64(made.total()) / float64(floor.total())
	tb.Logf("%d calls, %d required: ratio %.4f%s", made.total(), floor.total(), ratio, table.String())
	if ratio > 1+most {
		tb.Errorf("%.1f %% more calls than the page sizes require, and %.0f %% are allowed", 100*(ratio-1), 100*most)
	}
	return ratio
}

// count counts what the log says of the calls after since, and fails for any that did not succeed. It gives the log's end.
func count(tb testing.TB, endpoint string, since int64) (calls, int64) {
	tb.Helper()
	resp, err := http.Get(fmt.Sprintf("%s/_sim/calls?since=%d", endpoint, since))
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	out := calls{}
	dec := json.NewDecoder(resp.Body)
	for {
		var c core.CallRecord
		if err := dec.Decode(&c); errors.Is(err, io.EOF) {
			return out, since
		} else if err != nil {
			tb.Fatal(err)
		}
		since = c.Seq
		if c.Status != http.StatusOK {
			tb.Errorf("%s:%s in %s %s was answered with %d %s", c.Service, c.Action, c.Account, c.Region, c.Status, c.Code)
		}
		out[c.Service+":"+c.Action]++
	}
}
