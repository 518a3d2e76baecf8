package gates

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// host is an instance that a gate looks at.
type host struct {
	ref      fleet.Ref
	state    string // EC2's word; "gone" where EC2 no longer knows it
	running  bool
	group    string // the Auto Scaling group by its tag
	launched time.Time
	// since: it was launched from what changed, after the step began, and is not one of the changed themselves.
	since bool
	// system and instance are the status checks, in EC2's words; "unknown" where EC2 did not tell.
	system, instance string
}

func (h *host) impaired() bool {
	return h.system == string(types.SummaryStatusImpaired) || h.instance == string(types.SummaryStatusImpaired)
}

func (h *host) passed() bool {
	ok := func(s string) bool {
		return s == string(types.SummaryStatusOk) || s == string(types.SummaryStatusNotApplicable)
	}
	return ok(h.system) && ok(h.instance)
}

// hosts looks instances up. It holds two calls of EC2 and not the client, which would bring all of EC2 into the binary.
type hosts struct {
	place     fleet.Place
	instances func(context.Context, *ec2.DescribeInstancesInput) (*ec2.DescribeInstancesOutput, error)
	statuses  func(context.Context, *ec2.DescribeInstanceStatusInput) (*ec2.DescribeInstanceStatusOutput, error)
}

func newHosts(s *awsx.Session) *hosts {
	client := ec2.NewFromConfig(s.Config())
	return &hosts{
		place: s.Place(),
		instances: func(ctx context.Context, in *ec2.DescribeInstancesInput) (*ec2.DescribeInstancesOutput, error) {
			return client.DescribeInstances(ctx, in)
		},
		statuses: func(ctx context.Context, in *ec2.DescribeInstanceStatusInput) (*ec2.DescribeInstanceStatusOutput, error) {
			return client.DescribeInstanceStatus(ctx, in)
		},
	}
}

const (
	// filterValues is how many values all filters of one call may have together; with more EC2 says FilterLimitExceeded.
	filterValues = 200
	// mostDays is how many of them days may take up.
	mostDays = filterValues / 2
	// statusIDs is how many ids one status call takes.
	statusIDs = 100
)

// Tags that AWS puts on what it launches.
const (
	tagTemplate = "aws:ec2launchtemplate:id"
	tagGroup    = kind.TagGroup
)

// find looks up the changed instances, those that are no more included, and the ones launched since from what changed.
func (h *hosts) find(ctx context.Context, q engine.GateQuery) ([]*host, error) {
	found := map[string]*host{}
	mine := of(q.Instances, inventory.KindInstance)
	for _, ref := range mine {
		found[ref.ID] = &host{ref: ref, state: "gone", system: "unknown", instance: "unknown"}
	}
	ids := make([]string, 0, len(mine))
	for _, ref := range mine {
		ids = append(ids, ref.ID)
	}
	err := h.filtered(ctx, "instance-id", ids, nil, func(i *types.Instance) { found[aws.ToString(i.InstanceId)].fill(i) })
	if err != nil {
		return nil, err
	}
	add := func(i *types.Instance) {
		id := aws.ToString(i.InstanceId)
		if found[id] != nil || aws.ToTime(i.LaunchTime).Before(q.Since) {
			return
		}
		found[id] = &host{ref: fleet.Ref{Place: h.place, Kind: inventory.KindInstance, ID: id}, since: true,
			system: "unknown", instance: "unknown"}
		found[id].fill(i)
	}
	launched := launchedIn(q.Since, q.Now)
	if err := h.filtered(ctx, "tag:"+tagGroup, literals(q.Groups), launched, add); err != nil {
		return nil, err
	}
	if err := h.filtered(ctx, "tag:"+tagTemplate, idsOf(q.Templates), launched, add); err != nil {
		return nil, err
	}
	if q.Stage == plan.StageDefaults && q.Moment != engine.Before { // what was launched since may have taken the default
		if err := h.list(ctx, launched, add); err != nil {
			return nil, err
		}
	}
	out := make([]*host, 0, len(found))
	for _, one := range found {
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b *host) int { return a.ref.Compare(b.ref) })
	return out, nil
}

func (h *host) fill(i *types.Instance) {
	h.launched = aws.ToTime(i.LaunchTime)
	if i.State != nil {
		h.state = string(i.State.Name)
		h.running = i.State.Name == types.InstanceStateNameRunning
	}
	for _, t := range i.Tags {
		if aws.ToString(t.Key) == tagGroup {
			h.group = aws.ToString(t.Value)
		}
	}
}

func idsOf(refs []fleet.Ref) []string {
	out := make([]string, len(refs))
	for i, r := range refs {
		out[i] = r.ID
	}
	return out
}

// literals are the ids as values of a filter: a group may have a star in its name.
func literals(refs []fleet.Ref) []string {
	out := idsOf(refs)
	for i, id := range out {
		out[i] = kind.FilterValue(id)
	}
	return out
}

// launchedIn is a filter for what was launched on the days of a stretch of time, so that the answer is not all of a large group. EC2
// compares the time as text, hence days. Clocks may be off by the hour that is added to the end; a stretch of more than mostDays is
// not filtered.
func launchedIn(since, now time.Time) []types.Filter {
	const day = 24 * time.Hour
	first, end := since.UTC().Truncate(day), now.UTC().Add(time.Hour)
	if end.Before(first) || end.Sub(first) >= mostDays*day {
		return nil
	}
	var days []string
	for t := first; !t.After(end); t = t.Add(day) {
		days = append(days, t.Format("2006-01-02T*"))
	}
	return []types.Filter{{Name: aws.String("launch-time"), Values: days}}
}

// filtered lists the instances whose filter has one of the values, and that further filters let through.
func (h *hosts) filtered(ctx context.Context, name string, values []string, further []types.Filter, each func(*types.Instance)) error {
	room := filterValues
	for _, f := range further {
		room -= len(f.Values)
	}
	for chunk := range slices.Chunk(values, room) {
		if err := h.list(ctx, append([]types.Filter{{Name: &name, Values: chunk}}, further...), each); err != nil {
			return err
		}
	}
	return nil
}

func (h *hosts) list(ctx context.Context, filters []types.Filter, each func(*types.Instance)) error {
	in := &ec2.DescribeInstancesInput{Filters: filters, MaxResults: aws.Int32(1000),
		IncludeManagedResources: aws.Bool(true)}
	for {
		out, err := h.instances(ctx, in)
		if err != nil {
			return fmt.Errorf("look up instances in %s for a gate: %w", h.place, awsx.Plain(err))
		}
		for _, r := range out.Reservations {
			for i := range r.Instances {
				each(&r.Instances[i])
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

// checks fills in the status checks of the hosts that run. One that ended a moment ago does not fail the others.
func (h *hosts) checks(ctx context.Context, all []*host) error {
	byID := map[string]*host{}
	var ids []string
	for _, one := range all {
		if one.running {
			byID[one.ref.ID] = one
			ids = append(ids, one.ref.ID)
		}
	}
	for chunk := range slices.Chunk(ids, statusIDs) {
		out, err := h.statuses(ctx, &ec2.DescribeInstanceStatusInput{InstanceIds: chunk,
			IncludeManagedResources: aws.Bool(true)})
		if fleet.ClassOf(err) == fleet.ErrGone && len(chunk) > 1 {
			for _, id := range chunk {
				if err := h.checks(ctx, []*host{byID[id]}); err != nil {
					return err
				}
			}
			continue
		}
		if fleet.ClassOf(err) == fleet.ErrGone {
			byID[chunk[0]].state, byID[chunk[0]].running = "gone", false
			continue
		}
		if err != nil {
			return fmt.Errorf("read status checks in %s for a gate: %w", h.place, awsx.Plain(err))
		}
		for _, s := range out.InstanceStatuses {
			one := byID[aws.ToString(s.InstanceId)]
			if one == nil {
				continue
			}
			if s.SystemStatus != nil {
				one.system = string(s.SystemStatus.Status)
			}
			if s.InstanceStatus != nil {
				one.instance = string(s.InstanceStatus.Status)
			}
		}
	}
	return nil
}
