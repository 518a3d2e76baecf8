package followup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// outputSince is when a proof began to be waited for, RFC 3339.
const outputSince = "Since"

const (
	actionInstances = "ec2:DescribeInstances"
	actionStatus    = "ec2:DescribeInstanceStatus"
)

// Tags that EC2 puts on what was launched from a launch template (EC2 user guide, "Tag your Amazon EC2 resources").
const (
	tagTemplate = "aws:ec2launchtemplate:id"
	tagVersion  = "aws:ec2launchtemplate:version"
)

// startup is how long after a launch its status checks are a matter of the launch: an instance that has not passed them by
// then fails, and one that fails them later has other reasons.
const startup = time.Hour

// proves tells the follow-ups that watch what is launched.
func proves(verb string) bool { return verb == plan.ActionLaunched || verb == plan.ActionReplaced }

func proofVerb(name string) kind.Verb {
	return kind.Verb{
		Name: name, Class: plan.ClassStart, Disruption: kind.DisruptsNothing, Undo: kind.UndoNone,
		Outputs: []string{outputSince}, Calls: map[string]int{actionInstances: 2, actionStatus: 1},
	}
}

// proofCommands show the instances in question.
func proofCommands(w kind.Write) []string {
	if w.Params[plan.ParamTag] == "" || w.Params[plan.ParamInstance] == "" {
		return nil
	}
	return []string{kind.Command(w.Place, "ec2", "describe-instances", "--filters",
		"Name=tag:"+w.Params[plan.ParamTag]+",Values="+w.Params[plan.ParamInstance], "Name=instance-state-name,Values=pending,running",
		"--query", "Reservations[].Instances[].[InstanceId,LaunchTime,MetadataOptions.HttpTokens,Tags[?Key=='"+tagVersion+"']|[0].Value]",
		"--output", "table")}
}

// beginProof notes when the waiting began. Nothing is called.
func (d *driver) beginProof(w kind.Write) (kind.Result, error) {
	if _, err := parseProof(w); err != nil {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionOf(w.Verb), "write: %w", err)
	}
	return kind.Result{Outputs: map[string]string{outputSince: d.clock.Now().UTC().Format(time.RFC3339)}}, nil
}

// proof is what the parameters of such a follow-up say.
type proof struct {
	launcher, tag string
	from          []string // "lt-0abc:5"
	all           bool     // all running instances, not one
	since         time.Time
	patience      time.Duration
}

func parseProof(w kind.Write) (proof, error) {
	p := proof{launcher: w.Params[plan.ParamInstance], tag: w.Params[plan.ParamTag], all: w.Verb == plan.ActionReplaced}
	if p.launcher == "" || p.tag == "" {
		return p, fmt.Errorf("follow-up %s: its parameters name no launcher", w.ID)
	}
	for source := range strings.SplitSeq(w.Params[plan.ParamFrom], ",") {
		id, version, ok := strings.Cut(source, ":")
		if !ok || id == "" || version == "" {
			return p, fmt.Errorf("follow-up %s: %q is no launch template with a version", w.ID, source)
		}
		p.from = append(p.from, source)
	}
	if text := w.Params[plan.ParamTimeout]; text != "" {
		var err error
		if p.patience, err = time.ParseDuration(text); err != nil || p.patience < 0 {
			return p, fmt.Errorf("follow-up %s: its patience %q is no duration", w.ID, text)
		}
	}
	if text := w.Made[outputSince]; text != "" {
		var err error
		if p.since, err = time.Parse(time.RFC3339, text); err != nil {
			return p, fmt.Errorf("follow-up %s: it began at %q, which is no time", w.ID, text)
		}
	}
	return p, nil
}

// readProof looks at what the launcher's instances are now. Before the waiting began there is nothing to see.
func (d *driver) readProof(ctx context.Context, w kind.Write) (inventory.Resource, error) {
	r := inventory.Resource{Ref: d.ref(w.ID), Name: w.Params[plan.ParamName], State: fleet.State{}}
	p, err := parseProof(w)
	switch {
	case err != nil:
		return inventory.Resource{}, kind.Errorf(fleet.ErrInvalid, d.place, actionInstances, "read: %w", err)
	case p.since.IsZero():
		return r, nil
	}
	seen, err := d.launched(ctx, p)
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("watch the launches of %s: %w", p.launcher, err)
	}
	status, note := p.judge(seen, d.clock.Now())
	r.State[plan.FieldStatus], r.Settling = status, status == StatusRunning
	if note != "" {
		r.Attrs = map[string]string{kind.AttrNote: note}
	}
	return r, nil
}

// host is one instance of a launcher, as far as a proof is concerned.
type host struct {
	id, source string
	launched   time.Time
	running    bool
	closed     bool // it requires tokens, or its endpoint is off
	changing   bool // AWS has accepted a change of its options
	health     health
}

// health is what an instance's status checks say.
type health string

const (
	healthPassed health = "passed"
	healthFailed health = "failed"
	healthOpen   health = "open" // initializing, or not told yet
)

// judge says how far the proof is, and what else there is to say of it. What was launched from the new source must be as it
// should; what runs from before is only counted.
func (p proof) judge(hosts []host, now time.Time) (status, note string) {
	passed, open, old := 0, 0, 0
	for _, h := range hosts {
		switch {
		case !slices.Contains(p.from, h.source):
			if !h.closed {
				old++
			}
		case !h.closed && h.changing, !h.running:
			open++
		case !h.closed:
			return StatusFailed + fmt.Sprintf("%s was launched from %s and does not require tokens", h.id, h.source), ""
		case h.health == healthPassed:
			passed++
		case now.Sub(h.launched) > startup && p.all:
			passed++ // it did, or was judged, in its time
		case h.health == healthFailed:
			return StatusFailed + fmt.Sprintf("%s was launched from %s and fails its status checks", h.id, h.source), ""
		case now.Sub(h.launched) > startup:
			return StatusFailed + fmt.Sprintf("%s was launched from %s and has not passed its status checks within %s", h.id, h.source, startup), ""
		default:
			open++
		}
	}
	switch {
	case p.all && old == 0 && open == 0 && passed == 0:
		return plan.StatusDone, "not proven: nothing runs that was launched from " + strings.Join(p.from, ", ")
	case p.all && old == 0 && open == 0, !p.all && passed > 0:
		return plan.StatusDone, fmt.Sprintf("%d launched from %s seen to require tokens and pass", passed, strings.Join(p.from, ", "))
	case p.all || open > 0 || now.Before(p.since.Add(p.patience)):
		return StatusRunning, ""
	}
	return plan.StatusDone, fmt.Sprintf("not proven: no launch from %s was seen within %s", strings.Join(p.from, ", "), p.patience)
}

// launched reads the launcher's instances that run or are about to.
func (d *driver) launched(ctx context.Context, p proof) ([]host, error) {
	in := &ec2.DescribeInstancesInput{
		MaxResults: aws.Int32(kind.PageSize(ctx, mostInstances)),
		Filters: []types.Filter{
			{Name: aws.String("tag:" + p.tag), Values: []string{kind.FilterValue(p.launcher)}},
			{Name: aws.String("instance-state-name"), Values: []string{"pending", "running"}},
		},
	}
	var out []host
	for {
		page, err := d.ec2.DescribeInstances(ctx, in)
		if err != nil {
			return nil, awsx.Plain(err)
		}
		for _, r := range page.Reservations {
			for i := range r.Instances {
				if h := hostOf(&r.Instances[i]); tagged(&r.Instances[i], p.tag) == p.launcher {
					out = append(out, h)
				}
			}
		}
		if aws.ToString(page.NextToken) == "" {
			return out, d.checks(ctx, p, out)
		}
		in.NextToken = page.NextToken
	}
}

const (
	// mostInstances is the largest page of DescribeInstances, mostChecked the most instances that DescribeInstanceStatus takes.
	mostInstances = 1000
	mostChecked   = 100
)

func tagged(i *types.Instance, key string) string {
	for _, t := range i.Tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

func hostOf(i *types.Instance) host {
	h := host{
		id: aws.ToString(i.InstanceId), source: tagged(i, tagTemplate) + ":" + tagged(i, tagVersion), launched: aws.ToTime(i.LaunchTime),
		running: i.State != nil && i.State.Name == types.InstanceStateNameRunning, health: healthOpen,
	}
	if o := i.MetadataOptions; o != nil {
		h.closed = o.HttpTokens == types.HttpTokensStateRequired || o.HttpEndpoint == types.InstanceMetadataEndpointStateDisabled
		h.changing = o.State == types.InstanceMetadataOptionsStatePending
	}
	return h
}

// checks reads the status checks of those that were launched from the new source.
func (d *driver) checks(ctx context.Context, p proof, hosts []host) error {
	at := map[string]*host{}
	var ids []string
	for i := range hosts {
		if h := &hosts[i]; h.running && slices.Contains(p.from, h.source) {
			at[h.id] = h
			ids = append(ids, h.id)
		}
	}
	for chunk := range slices.Chunk(ids, mostChecked) {
		out, err := d.ec2.DescribeInstanceStatus(ctx, &ec2.DescribeInstanceStatusInput{InstanceIds: chunk})
		if err != nil {
			return awsx.Plain(err)
		}
		for _, s := range out.InstanceStatuses {
			if h := at[aws.ToString(s.InstanceId)]; h != nil {
				h.health = healthOf(s.InstanceStatus, s.SystemStatus)
			}
		}
	}
	return nil
}

func healthOf(checks ...*types.InstanceStatusSummary) health {
	out := healthPassed
	for _, c := range checks {
		switch {
		case c == nil:
			out = healthOpen
		case c.Status == types.SummaryStatusImpaired:
			return healthFailed
		case c.Status != types.SummaryStatusOk && c.Status != types.SummaryStatusNotApplicable:
			out = healthOpen
		}
	}
	return out
}
