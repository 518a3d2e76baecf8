package autoscalinggroup

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// OutputRefresh is the id of the instance refresh that was started.
const OutputRefresh = "InstanceRefreshId"

// ReadFor adds to the state of a group that is to be refreshed how its refresh goes, in plan.FieldRefresh: absent before it was
// started, and again after it ended without success, which kind.AttrNote then explains; the word of AWS while it runs, which
// settles; types.InstanceRefreshStatusSuccessful at the end. Before ours was started, one that runs is somebody else's.
func (d *driver) ReadFor(ctx context.Context, w kind.Write) (inventory.Resource, error) {
	r, err := d.Read(ctx, w.ID)
	if err != nil || w.Verb != VerbRefresh {
		return r, err
	}
	id := w.Made[OutputRefresh]
	found, err := d.refresh(ctx, w.ID, id)
	switch {
	case err != nil:
		return inventory.Resource{}, err
	case found == nil && id != "": // it was started, and does not show yet
		r.State[plan.FieldRefresh], r.Settling = string(types.InstanceRefreshStatusPending), true
	case found == nil:
	case id == "" && running(found.Status):
		r.State[plan.FieldRefresh] = fmt.Sprintf("%s (%s, which was not started by this plan)", found.Status,
			aws.ToString(found.InstanceRefreshId))
	case id == "":
	case running(found.Status):
		r.State[plan.FieldRefresh], r.Settling = string(found.Status), true
	case found.Status == types.InstanceRefreshStatusSuccessful:
		r.State[plan.FieldRefresh] = plan.RefreshSuccessful
	default:
		r.Attrs[kind.AttrNote] = fmt.Sprintf("instance refresh %s: %s: %s", id, found.Status, aws.ToString(found.StatusReason))
	}
	return r, nil
}

// running tells whether a refresh has not ended: AWS takes no other one meanwhile.
func running(s types.InstanceRefreshStatus) bool {
	switch s {
	case types.InstanceRefreshStatusSuccessful, types.InstanceRefreshStatusFailed, types.InstanceRefreshStatusCancelled,
		types.InstanceRefreshStatusRollbackFailed, types.InstanceRefreshStatusRollbackSuccessful:
		return false
	}
	return true // a word that is new to us included
}

// refresh reads one refresh of a group, or without an id the newest. Nil where there is none.
func (d *driver) refresh(ctx context.Context, group, id string) (*types.InstanceRefresh, error) {
	in := &autoscaling.DescribeInstanceRefreshesInput{AutoScalingGroupName: aws.String(group), MaxRecords: aws.Int32(1)}
	if id != "" {
		in.InstanceRefreshIds, in.MaxRecords = []string{id}, nil
	}
	out, err := d.client.DescribeInstanceRefreshes(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("read the instance refreshes of Auto Scaling group %s: %w", group, awsx.Plain(err))
	}
	if len(out.InstanceRefreshes) == 0 {
		return nil, nil
	}
	return &out.InstanceRefreshes[0], nil
}

// startRefresh names what the group launches from as the desired configuration, which changes nothing of the group, and by
// which Find recognises the refresh: AWS takes neither a client token nor a marker. Instances that were launched from it
// already are left alone, so that a second refresh in its place would replace nothing.
func (d *driver) startRefresh(ctx context.Context, w kind.Write) (kind.Result, error) {
	g, err := d.unchanged(ctx, w.ID, w.Before, actionStart)
	if err != nil {
		return kind.Result{}, err
	}
	out, err := d.client.StartInstanceRefresh(ctx, &autoscaling.StartInstanceRefreshInput{
		AutoScalingGroupName: aws.String(w.ID), DesiredConfiguration: desired(g),
		Preferences: &types.RefreshPreferences{SkipMatching: aws.Bool(true)},
	})
	if err != nil {
		return kind.Result{}, fmt.Errorf("start an instance refresh of Auto Scaling group %s: %w", w.ID, awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id, Outputs: map[string]string{OutputRefresh: aws.ToString(out.InstanceRefreshId)}}, nil
}

// desired is what the group launches from; nil for a launch configuration, which cannot be named.
func desired(g *types.AutoScalingGroup) *types.DesiredConfiguration {
	switch {
	case g.MixedInstancesPolicy != nil:
		return &types.DesiredConfiguration{MixedInstancesPolicy: sendable(g.MixedInstancesPolicy)}
	case g.LaunchTemplate != nil:
		return &types.DesiredConfiguration{LaunchTemplate: byID(g.LaunchTemplate)}
	}
	return nil
}

// Find looks for a refresh that an earlier Write may have started: of what the group launches from, without the instances
// launched from it already, since the plan was made and not longer ago than a retry is. What somebody else started like
// that does the same.
func (d *driver) Find(ctx context.Context, w kind.Write) (kind.Result, error) {
	if w.Verb != VerbRefresh {
		return kind.Result{}, kind.ErrNotFound
	}
	g, err := d.group(ctx, w.ID)
	if err != nil {
		return kind.Result{}, err
	}
	since := d.clock.Now().Add(-kind.TokenLife)
	if seconds, err := strconv.ParseInt(w.Params[plan.ParamPlanned], 10, 64); err == nil && time.Unix(seconds, 0).After(since) {
		since = time.Unix(seconds, 0)
	}
	found, err := d.refresh(ctx, w.ID, "")
	switch {
	case err != nil:
		return kind.Result{}, err
	case found == nil || aws.ToTime(found.StartTime).Before(since) || !sameSource(found.DesiredConfiguration, g),
		found.Preferences == nil || !aws.ToBool(found.Preferences.SkipMatching):
		return kind.Result{}, kind.ErrNotFound
	}
	return kind.Result{Outputs: map[string]string{OutputRefresh: aws.ToString(found.InstanceRefreshId)}}, nil
}

// sameSource tells whether a refresh names the templates and versions that the group launches from.
func sameSource(c *types.DesiredConfiguration, g *types.AutoScalingGroup) bool {
	named, own := fleet.State{}, fleet.State{}
	if c != nil {
		putTemplates(named, c.LaunchTemplate, c.MixedInstancesPolicy)
	}
	putTemplates(own, g.LaunchTemplate, g.MixedInstancesPolicy)
	return named.Equal(own)
}

// Cancels tells that a refresh which still runs is stopped by its revert.
func (d *driver) Cancels(verb string) bool { return verb == VerbRefresh }

// stopRefresh cancels our refresh while it runs. What it replaced by then stays, and what it replaced in the end is gone.
func (d *driver) stopRefresh(ctx context.Context, w kind.Write) error {
	id := w.Made[OutputRefresh]
	if id == "" {
		return kind.Errorf(fleet.ErrInvalid, d.place, actionCancel,
			"Auto Scaling group %s: it is not known which instance refresh was started", w.ID)
	}
	found, err := d.refresh(ctx, w.ID, id)
	switch {
	case err != nil:
		return err
	case found == nil:
		return kind.Errorf(fleet.ErrConflict, d.place, actionCancel, "instance refresh %s of Auto Scaling group %s does not show; "+
			"look whether it runs, and cancel it", id, w.ID)
	case found.Status == types.InstanceRefreshStatusSuccessful:
		return kind.Errorf(fleet.ErrConflict, d.place, actionCancel, "instance refresh %s of Auto Scaling group %s has ended, and "+
			"the instances it replaced are gone; once the group launches from what it did before, start another refresh", id, w.ID)
	case !running(found.Status) || found.Status == types.InstanceRefreshStatusCancelling:
		return nil
	}
	_, err = d.client.CancelInstanceRefresh(ctx, &autoscaling.CancelInstanceRefreshInput{AutoScalingGroupName: aws.String(w.ID)})
	if err != nil {
		return fmt.Errorf("cancel instance refresh %s of Auto Scaling group %s: %w", id, w.ID, awsx.Plain(err))
	}
	return nil
}
