package launchconfiguration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries; c is what a creation waits by
// until the new template can be read.
func Open(cfg aws.Config, place fleet.Place, c clock.Clock) kind.Driver {
	return &driver{autoscaling: autoscaling.NewFromConfig(cfg), ec2: ec2.NewFromConfig(cfg), place: place, clock: c}
}

type driver struct {
	autoscaling *autoscaling.Client
	ec2         *ec2.Client
	place       fleet.Place
	clock       clock.Clock
}

var (
	_ kind.UndoChecker = (*driver)(nil)
	_ kind.DryRunner   = (*driver)(nil)
)

func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	switch {
	case w.Verb == VerbCreateTemplate && w.Revert:
		return d.removeMade(ctx, w)
	case w.Verb == VerbCreateTemplate:
		return d.create(ctx, w)
	}
	return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionCreate, "launch configurations have no verb %q", w.Verb)
}

// create makes the template. Whatever goes wrong after EC2 has made it leaves the effect unknown, as the contract has it:
// Find then takes up from there.
func (d *driver) create(ctx context.Context, w kind.Write) (kind.Result, error) {
	in, want, err := d.templateInput(ctx, w)
	if err != nil {
		return kind.Result{}, err
	}
	out, err := d.ec2.CreateLaunchTemplate(ctx, in)
	if err != nil {
		return kind.Result{}, fmt.Errorf("make a launch template of launch configuration %s: %w", w.ID, awsx.Plain(err))
	}
	if out.LaunchTemplate == nil || aws.ToString(out.LaunchTemplate.LaunchTemplateId) == "" {
		return kind.Result{}, kind.Errorf(fleet.ErrTransient, d.place, actionCreate,
			"launch configuration %s: EC2 did not say which launch template it made", w.ID)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return d.settle(ctx, w, want, *out.LaunchTemplate.LaunchTemplateId, id)
}

// templateInput reads the launch configuration and gives the request that makes a template of it, with what that says.
func (d *driver) templateInput(ctx context.Context, w kind.Write) (*ec2.CreateLaunchTemplateInput, content, error) {
	want, err := d.wanted(ctx, w)
	if err != nil {
		return nil, content{}, err
	}
	if w.Token == "" || w.Marker == "" {
		return nil, content{}, kind.Errorf(fleet.ErrInvalid, d.place, actionCreate,
			"launch configuration %s: a launch template is only made under a token and a marker", w.ID)
	}
	return &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String(templateName(w.ID, w.Marker)),
		VersionDescription: aws.String(description(w)),
		ClientToken:        aws.String(w.Token),
		LaunchTemplateData: request(want),
		TagSpecifications: []types.TagSpecification{{
			ResourceType: types.ResourceTypeLaunchTemplate,
			Tags: []types.Tag{
				{Key: aws.String(tagReplaces), Value: aws.String(w.ID)}, {Key: aws.String(tagMarker), Value: aws.String(w.Marker)},
			},
		}},
	}, want, nil
}

// description tells people what the version is. EC2 takes 255 characters.
func description(w kind.Write) string {
	s := "imdsctl " + w.Marker + ": replaces launch configuration " + w.ID
	return s[:min(len(s), 255)]
}

// wanted is what the template is to say.
func (d *driver) wanted(ctx context.Context, w kind.Write) (content, error) {
	c, err := d.configuration(ctx, w.ID)
	if err != nil {
		return content{}, err
	}
	if why := hindrance(c); why != "" {
		return content{}, kind.Errorf(fleet.ErrInvalid, d.place, actionCreate,
			"launch configuration %s cannot be written as a launch template: %s", w.ID, why)
	}
	want := fromConfiguration(c)
	want.Options = fleet.State(w.Params).Options().Over(want.Options)
	want.Options.Tokens = fleet.TokensRequired
	return want, nil
}

// settle compares what was made with its source and removes it if they differ in more than the metadata options.
func (d *driver) settle(ctx context.Context, w kind.Write, want content, made, requestID string) (kind.Result, error) {
	data, err := d.visible(ctx, made)
	if err != nil {
		return kind.Result{}, d.unknown(fmt.Errorf("compare launch template %s: %w", made, err))
	}
	differs := differences(want, data)
	if len(differs) == 0 {
		return kind.Result{Outputs: map[string]string{OutputTemplate: made}, RequestID: requestID}, nil
	}
	if err := d.remove(ctx, made); err != nil {
		return kind.Result{}, d.unknown(fmt.Errorf("launch template %s differs from launch configuration %s in %s, and could not "+
			"be removed: %w", made, w.ID, strings.Join(differs, ", "), err))
	}
	return kind.Result{}, kind.Errorf(fleet.ErrConflict, d.place, actionCreate,
		"a launch template of launch configuration %s came out different in %s and was removed again; make one by hand",
		w.ID, strings.Join(differs, ", "))
}

// unknown marks an error as one that came after something was made.
func (d *driver) unknown(err error) error {
	return kind.Errorf(fleet.ErrTransient, d.place, actionCreate, "%w", err)
}

// Waits for a template that was just made, whose reading may lag behind: after 1, 2, 4, 8 and 16 seconds.
const (
	firstWait = time.Second
	waits     = 5
)

func (d *driver) visible(ctx context.Context, id string) (*types.ResponseLaunchTemplateData, error) {
	wait := firstWait
	for attempt := 0; ; attempt++ {
		data, err := d.firstVersion(ctx, id)
		if fleet.ClassOf(err) != fleet.ErrGone || attempt == waits {
			return data, err
		}
		if err := d.clock.Sleep(ctx, wait); err != nil {
			return nil, err
		}
		wait *= 2
	}
}

func (d *driver) firstVersion(ctx context.Context, id string) (*types.ResponseLaunchTemplateData, error) {
	out, err := d.ec2.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{
		LaunchTemplateId: aws.String(id), Versions: []string{"1"},
	})
	if err != nil {
		return nil, awsx.Plain(err)
	}
	for _, v := range out.LaunchTemplateVersions {
		if aws.ToInt64(v.VersionNumber) == 1 {
			return v.LaunchTemplateData, nil
		}
	}
	return nil, kind.Errorf(fleet.ErrGone, d.place, actionVersions, "launch template %s does not show its first version", id)
}

// removeMade undoes a creation, unless a group launches from the template by now: without it, the group could launch nothing.
func (d *driver) removeMade(ctx context.Context, w kind.Write) (kind.Result, error) {
	made := w.Made[OutputTemplate]
	if !templateID.MatchString(made) {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionDelete,
			"launch configuration %s: it is not known which launch template was made of it", w.ID)
	}
	users, err := d.users(ctx, made)
	if err != nil {
		return kind.Result{}, fmt.Errorf("see who launches from launch template %s: %w", made, err)
	}
	if len(users) > 0 {
		return kind.Result{}, kind.Errorf(fleet.ErrConflict, d.place, actionDelete,
			"launch template %s is what %s launches from; let the group name launch configuration %s again first", made,
			strings.Join(users, ", "), w.ID)
	}
	return kind.Result{}, d.remove(ctx, made)
}

// users names the groups that launch from a template.
func (d *driver) users(ctx context.Context, template string) ([]string, error) {
	in := &autoscaling.DescribeAutoScalingGroupsInput{MaxRecords: aws.Int32(kind.PageSize(ctx, mostRecords))}
	var out []string
	for {
		page, err := d.autoscaling.DescribeAutoScalingGroups(ctx, in)
		if err != nil {
			return nil, awsx.Plain(err)
		}
		for i := range page.AutoScalingGroups {
			if g := &page.AutoScalingGroups[i]; names(g, template) {
				out = append(out, aws.ToString(g.AutoScalingGroupName))
			}
		}
		if aws.ToString(page.NextToken) == "" {
			return out, nil
		}
		in.NextToken = page.NextToken
	}
}

// names tells whether a group names the template anywhere.
func names(g *astypes.AutoScalingGroup, template string) bool {
	is := func(t *astypes.LaunchTemplateSpecification) bool {
		return t != nil && aws.ToString(t.LaunchTemplateId) == template
	}
	if is(g.LaunchTemplate) {
		return true
	}
	if g.MixedInstancesPolicy == nil || g.MixedInstancesPolicy.LaunchTemplate == nil {
		return false
	}
	mixed := g.MixedInstancesPolicy.LaunchTemplate
	return is(mixed.LaunchTemplateSpecification) || slices.ContainsFunc(mixed.Overrides, func(o astypes.LaunchTemplateOverrides) bool {
		return is(o.LaunchTemplateSpecification)
	})
}

// remove deletes a template. One that is gone already is as good as deleted.
func (d *driver) remove(ctx context.Context, id string) error {
	_, err := d.ec2.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateId: aws.String(id)})
	if err != nil && !noSuchTemplate(err) {
		return fmt.Errorf("delete launch template %s: %w", id, awsx.Plain(err))
	}
	return nil
}

// noSuchTemplate tells an answer that got as far as looking for the template, which is after permissions were checked.
func noSuchTemplate(err error) bool {
	call, ok := errors.AsType[*fleet.CallError](err)
	return ok && strings.HasPrefix(call.Code, "InvalidLaunchTemplateId.NotFound")
}

// Find looks for a template that carries the marker.
func (d *driver) Find(ctx context.Context, w kind.Write) (kind.Result, error) {
	if w.Verb != VerbCreateTemplate || w.Marker == "" {
		return kind.Result{}, kind.ErrNotFound
	}
	var made string
	err := d.eachTemplate(ctx, ofConfiguration(w.ID), func(t *types.LaunchTemplate) {
		if tagOf(t, tagReplaces) == w.ID && tagOf(t, tagMarker) == w.Marker {
			made = aws.ToString(t.LaunchTemplateId)
		}
	})
	if err != nil {
		return kind.Result{}, fmt.Errorf("find the launch template made of launch configuration %s: %w", w.ID, err)
	}
	if made == "" {
		return kind.Result{}, kind.ErrNotFound
	}
	want, err := d.wanted(ctx, w)
	if err != nil {
		return kind.Result{}, d.unknown(err)
	}
	return d.settle(ctx, w, want, made, "")
}

// nowhere is the id of a template that no account has: EC2 makes ids up, and this one is not of a sort that it makes.
// Permissions are by account and tag, so that asking for it tells as much as asking for the template that is not made yet.
const nowhere = "lt-00000000000000000"

// CheckUndo asks EC2 by a dry run whether the caller may delete a launch template.
func (d *driver) CheckUndo(ctx context.Context, w kind.Write) error {
	if w.Verb != VerbCreateTemplate {
		return kind.Errorf(fleet.ErrInvalid, d.place, actionCreate, "launch configurations have no verb %q", w.Verb)
	}
	_, err := d.ec2.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{
		DryRun: aws.Bool(true), LaunchTemplateId: aws.String(nowhere),
	})
	if err == nil || noSuchTemplate(err) || awsx.DryRunOK(err) {
		return nil
	}
	return kind.DryRunError(awsx.Plain(err), "undo the %s of launch configuration %s", w.Verb, w.ID)
}

// DryRun asks EC2 whether the caller may make the template. What it would come out as can only be told once it is there.
func (d *driver) DryRun(ctx context.Context, w kind.Write) error {
	if w.Verb != VerbCreateTemplate {
		return kind.Errorf(fleet.ErrInvalid, d.place, actionCreate, "launch configurations have no verb %q", w.Verb)
	}
	in, _, err := d.templateInput(ctx, w)
	if err != nil {
		return err
	}
	in.DryRun = aws.Bool(true)
	if _, err := d.ec2.CreateLaunchTemplate(ctx, in); err != nil && !awsx.DryRunOK(err) {
		return kind.DryRunError(awsx.Plain(err), "make a launch template of launch configuration %s", w.ID)
	}
	return nil
}
