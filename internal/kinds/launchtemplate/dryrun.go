package launchtemplate

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// DryRun asks EC2 whether the caller may copy a version, whose source is read for it as for the copy itself, or make a
// version the default. What a copy would come out as can only be told once it is there.
func (d *driver) DryRun(ctx context.Context, w kind.Write) error {
	switch w.Verb {
	case VerbCreateVersion:
		in, _, err := d.copyInput(ctx, w)
		if err != nil {
			return err
		}
		in.DryRun = aws.Bool(true)
		if _, err := d.client.CreateLaunchTemplateVersion(ctx, in); err != nil && !awsx.DryRunOK(err) {
			return kind.DryRunError(awsx.Plain(err), "copy version %s of launch template %s", w.Params[ParamSource], w.ID)
		}
	case VerbSetDefault:
		in, err := d.defaultInput(w)
		if err != nil {
			return err
		}
		in.DryRun = aws.Bool(true)
		if _, err := d.client.ModifyLaunchTemplate(ctx, in); err != nil && !awsx.DryRunOK(err) {
			return kind.DryRunError(awsx.Plain(err), "make version %s the default of launch template %s",
				*in.DefaultVersion, w.ID)
		}
	default:
		return kind.Errorf(fleet.ErrInvalid, d.place, actionModify, "launch templates have no verb %q", w.Verb)
	}
	return nil
}
