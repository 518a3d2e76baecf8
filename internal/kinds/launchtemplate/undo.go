package launchtemplate

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// nowhere is the number of a version that no template has: EC2 numbers them from 1 and keeps ten thousand. Permissions
// are by template, so that asking for it tells as much as asking for the version that is not made yet.
const nowhere = "999999999"

// CheckUndo asks EC2 by a dry run whether the caller may delete a version of the template, or make the present default
// the default. Both are such that even a stand-in that takes them for real changes nothing.
func (d *driver) CheckUndo(ctx context.Context, w kind.Write) error {
	var err error
	switch w.Verb {
	case VerbCreateVersion:
		_, err = d.client.DeleteLaunchTemplateVersions(ctx, &ec2.DeleteLaunchTemplateVersionsInput{
			DryRun: aws.Bool(true), LaunchTemplateId: aws.String(w.ID), Versions: []string{nowhere},
		})
		if noSuchVersion(err) {
			return nil
		}
	case VerbSetDefault:
		_, err = d.client.ModifyLaunchTemplate(ctx, &ec2.ModifyLaunchTemplateInput{
			DryRun: aws.Bool(true), LaunchTemplateId: aws.String(w.ID),
			DefaultVersion: aws.String(w.Before[inventory.FieldDefaultVersion]),
		})
	default:
		return kind.Errorf(fleet.ErrInvalid, d.place, actionModify, "launch templates have no verb %q", w.Verb)
	}
	if err != nil && !awsx.DryRunOK(err) {
		return kind.DryRunError(awsx.Plain(err), "undo the %s of launch template %s", w.Verb, w.ID)
	}
	return nil
}

// noSuchVersion tells an answer that got as far as looking at the version, which is after permissions were checked.
func noSuchVersion(err error) bool {
	call, ok := errors.AsType[*fleet.CallError](err)
	return ok && (strings.Contains(call.Code, "VersionNotFound") || call.Code == "InvalidParameterValue")
}
