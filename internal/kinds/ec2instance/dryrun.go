package ec2instance

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// DryRun asks EC2 whether the caller may set the options of w. A change of the hop limit sends the tokens as they are, and
// that optional may be set at all is a rule of the service's own, which a dry run does not promise to tell.
func (d *driver) DryRun(ctx context.Context, w kind.Write) error {
	in, err := d.input(w)
	if err != nil {
		return err
	}
	if w.After[fleet.FieldTokens] == fleet.TokensOptional {
		if err := d.optionalAllowed(ctx); err != nil {
			return fmt.Errorf("set the metadata options of instance %s with HttpTokens left at optional: %w", w.ID, err)
		}
	}
	in.DryRun = aws.Bool(true)
	if _, err := d.client.ModifyInstanceMetadataOptions(ctx, in); err != nil && !awsx.DryRunOK(err) {
		return kind.DryRunError(awsx.Plain(err), "set the metadata options of instance %s", w.ID)
	}
	return nil
}
