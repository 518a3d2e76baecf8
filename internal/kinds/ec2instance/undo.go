package ec2instance

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// CheckUndo asks EC2 by a dry run whether the caller may set what the instance has now, and, where that is optional
// tokens, whether the account's defaults forbid it to everybody. A dry run only tells permissions; it asks for what is
// there already, so that even a stand-in that takes it for real changes nothing.
func (d *driver) CheckUndo(ctx context.Context, w kind.Write) error {
	if err := writable(w); err != nil {
		return kind.Errorf(fleet.ErrConflict, d.place, actionModify, "undo the change of instance %s: %w", w.ID, err)
	}
	if w.Before[fleet.FieldTokens] == fleet.TokensOptional {
		if err := d.optionalAllowed(ctx); err != nil {
			return fmt.Errorf("set back HttpTokens of instance %s to optional: %w", w.ID, err)
		}
	}
	in, err := request(w.ID, w.Before)
	if err != nil {
		return kind.Errorf(fleet.ErrInvalid, d.place, actionModify, "undo the change of instance %s: %w", w.ID, err)
	}
	in.DryRun = aws.Bool(true)
	if _, err := d.client.ModifyInstanceMetadataOptions(ctx, in); err != nil && !awsx.DryRunOK(err) {
		return kind.DryRunError(awsx.Plain(err), "set back the metadata options of instance %s", w.ID)
	}
	return nil
}

// optionalAllowed is an error where nobody in the account may set tokens to optional, or where that cannot be told. It
// is asked for even if the change itself leaves the tokens alone: a later change of the same stack may not.
func (d *driver) optionalAllowed(ctx context.Context) error {
	out, err := d.client.GetInstanceMetadataDefaults(ctx, &ec2.GetInstanceMetadataDefaultsInput{})
	switch {
	case err != nil && unknownCall(err):
		return nil
	case err != nil:
		return awsx.Plain(err)
	case out.AccountLevel == nil || out.AccountLevel.HttpTokensEnforced != types.HttpTokensEnforcedStateEnabled:
		return nil
	case out.AccountLevel.ManagedBy == types.ManagedByDeclarativePolicy:
		return kind.Errorf(fleet.ErrConflict, d.place, actionDefaults, "HttpTokensEnforced is enabled in this region by a "+
			"declarative policy, under which only the organization can allow optional again; have http_tokens_enforced taken "+
			"out of the policy for this account first, or change the instance by hand, knowing that it cannot be undone")
	default:
		return kind.Errorf(fleet.ErrConflict, d.place, actionDefaults, "HttpTokensEnforced is enabled in this region, and "+
			"nothing can be set back to optional while it is; disable HttpTokensEnforced in this region first, or change the "+
			"instance by hand, knowing that it cannot be undone")
	}
}

// noCode is the SDK's own code for an answer that is a document without a code of AWS's. Where the answer is no
// document, there is no code at all.
const noCode = "UnknownError"

// unknownCall tells an endpoint that does not know GetInstanceMetadataDefaults, and thus has no defaults to enforce,
// from one that does not tell: it says that the call is invalid (it has no parameter that could be), or answers, as
// stand-ins do, with a page that is nothing of AWS's; a page of something in between comes to the dry run as well. A
// denial, a throttle, a fault of EC2's own or no answer is neither: what is enforced is unknown then, and unknown is
// not allowed.
func unknownCall(err error) bool {
	call, ok := errors.AsType[*fleet.CallError](err)
	if !ok {
		return false
	}
	if _, before := errors.AsType[*fleet.CallError](call.Err); before {
		return false // it was another call, for credentials, that failed
	}
	if call.Code != "" {
		return call.Code == noCode || call.Class == fleet.ErrInvalid
	}
	response, ok := errors.AsType[*smithyhttp.ResponseError](call.Err)
	return ok && (response.HTTPStatusCode() == http.StatusInternalServerError ||
		response.HTTPStatusCode() == http.StatusNotImplemented)
}
