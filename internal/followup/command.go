package followup

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

const (
	// mostResults is the largest page of ListCommands (Systems Manager API reference).
	mostResults = 50
	// slack is how much earlier than the plan a command may have been sent by AWS's clock.
	slack = 24 * time.Hour
)

// deliveryTimeout is SendCommand's TimeoutSeconds, 30 to 2592000: after that the command does not start any more. How
// long it may run is a parameter of its document (executionTimeout), if the document has one.
func deliveryTimeout(d time.Duration) int32 {
	return int32(min(max((d+time.Second-1)/time.Second, 30), 2592000)) //nolint:gosec // bounded just here
}

// send has Systems Manager run the document on the instance.
func (d *driver) send(ctx context.Context, t Task, w kind.Write) (kind.Result, error) {
	out, err := d.client.SendCommand(ctx, &ssm.SendCommandInput{
		DocumentName:   aws.String(t.Document),
		InstanceIds:    []string{t.Instance},
		Parameters:     t.Parameters,
		TimeoutSeconds: aws.Int32(deliveryTimeout(t.Timeout)),
		Comment:        aws.String(comment(w.ID, w.Marker)),
	})
	if awsx.Code(err) == "InvalidInstanceId" {
		return kind.Result{}, fmt.Errorf("%w; its instance does not run, or its Systems Manager agent is not registered: "+
			"see to that, or do the follow-up by hand", awsx.Plain(err))
	}
	if err != nil {
		return kind.Result{}, fmt.Errorf("send document %s to instance %s: %w", t.Document, t.Instance, awsx.Plain(err))
	}
	request, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	res := kind.Result{RequestID: request, Outputs: map[string]string{}}
	if out.Command != nil {
		res.Outputs[OutputCommand] = aws.ToString(out.Command.CommandId)
	}
	return res, nil
}

// find looks for the command that carries the comment of one attempt.
func (d *driver) find(ctx context.Context, w kind.Write) (kind.Result, error) {
	id, err := ParseID(w.ID)
	if err != nil {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionList, "find: %w", err)
	}
	var found kind.Result
	want := comment(w.ID, w.Marker)
	err = d.commands(ctx, d.sentTo(ctx, id), func(c types.Command) {
		if aws.ToString(c.Comment) == want {
			found.Outputs = map[string]string{OutputCommand: aws.ToString(c.CommandId)}
		}
	})
	switch {
	case err != nil:
		return kind.Result{}, fmt.Errorf("find the command of follow-up %s: %w", w.ID, err)
	case found.Outputs == nil:
		return kind.Result{}, kind.ErrNotFound
	}
	return found, nil
}

// status is that of the follow-up's command, the latest if there are several; "" where there is none.
func (d *driver) status(ctx context.Context, id ID, w kind.Write) (string, error) {
	known := w.Made[OutputCommand]
	in := d.sentTo(ctx, id)
	if known != "" {
		in = &ssm.ListCommandsInput{CommandId: aws.String(known)}
	}
	var found []types.Command
	err := d.commands(ctx, in, func(c types.Command) {
		if known != "" || marked(aws.ToString(c.Comment), w.ID) {
			found = append(found, c)
		}
	})
	switch {
	case awsx.Code(err) == "InvalidCommandId" && known != "":
		return StatusRunning, nil // it was sent, and does not show yet
	case err != nil:
		return "", err
	case len(found) == 0 && known != "":
		return StatusRunning, nil
	case len(found) == 0:
		return "", nil
	}
	last := found[0]
	for _, c := range found[1:] {
		if aws.ToTime(c.RequestedDateTime).After(aws.ToTime(last.RequestedDateTime)) {
			last = c
		}
	}
	switch last.Status {
	case types.CommandStatusSuccess:
		return plan.StatusDone, nil
	case types.CommandStatusFailed, types.CommandStatusTimedOut, types.CommandStatusCancelled:
		return d.failure(ctx, id, last)
	default: // pending, in progress, being cancelled; what is not known is not taken for success
		return StatusRunning, nil
	}
}

// failure says how a command failed. The exit code is the invocation's; without it the answer is still true.
func (d *driver) failure(ctx context.Context, id ID, c types.Command) (string, error) {
	details := aws.ToString(c.StatusDetails)
	if details == "" {
		details = string(c.Status)
	}
	out, err := d.client.ListCommandInvocations(ctx, &ssm.ListCommandInvocationsInput{
		CommandId: c.CommandId, InstanceId: aws.String(id.Instance), Details: true,
	})
	if ctx.Err() != nil {
		return "", awsx.Plain(err)
	}
	if err != nil {
		return StatusFailed + details + " (its exit code could not be read)", nil
	}
	for _, v := range out.CommandInvocations {
		if text := aws.ToString(v.StatusDetails); text != "" {
			details = text
		}
		for _, p := range v.CommandPlugins {
			if p.Status == types.CommandPluginStatusFailed && p.ResponseCode > 0 {
				return fmt.Sprintf("%s%s, exit code %d", StatusFailed, details, p.ResponseCode), nil
			}
		}
	}
	return StatusFailed + strings.TrimSpace(details), nil
}

// sentTo asks for what was sent to the instance since the plan was made.
func (d *driver) sentTo(ctx context.Context, id ID) *ssm.ListCommandsInput {
	in := &ssm.ListCommandsInput{
		InstanceId: aws.String(id.Instance), MaxResults: aws.Int32(kind.PageSize(ctx, mostResults)),
	}
	if since := id.Planned.Add(-slack); since.Unix() > 0 {
		in.Filters = []types.CommandFilter{{
			Key: types.CommandFilterKeyInvokedAfter, Value: aws.String(since.Format(time.RFC3339)),
		}}
	}
	return in
}

// commands goes through all pages of a listing.
func (d *driver) commands(ctx context.Context, in *ssm.ListCommandsInput, each func(types.Command)) error {
	for {
		out, err := d.client.ListCommands(ctx, in)
		if err != nil {
			return awsx.Plain(err)
		}
		for _, c := range out.Commands {
			each(c)
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}
