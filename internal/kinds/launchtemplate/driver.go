package launchtemplate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries; c is what a creation
// waits by until the new version can be read.
func Open(cfg aws.Config, place fleet.Place, c clock.Clock) kind.Driver {
	return &driver{client: ec2.NewFromConfig(cfg), place: place, clock: c}
}

type driver struct {
	client *ec2.Client
	place  fleet.Place
	clock  clock.Clock
}

var (
	_ kind.VersionReader = (*driver)(nil)
	_ kind.UndoChecker   = (*driver)(nil)
	_ kind.DryRunner     = (*driver)(nil)
)

func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	switch {
	case w.Verb == VerbSetDefault:
		return d.setDefault(ctx, w)
	case w.Verb == VerbCreateVersion && w.Revert:
		return d.removeMade(ctx, w)
	case w.Verb == VerbCreateVersion:
		return d.create(ctx, w)
	}
	return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionModify, "launch templates have no verb %q", w.Verb)
}

func (d *driver) setDefault(ctx context.Context, w kind.Write) (kind.Result, error) {
	in, err := d.defaultInput(w)
	if err != nil {
		return kind.Result{}, err
	}
	out, err := d.client.ModifyLaunchTemplate(ctx, in)
	if err != nil {
		return kind.Result{}, fmt.Errorf("make version %s the default of launch template %s: %w",
			*in.DefaultVersion, w.ID, awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// defaultInput is the request that makes a set-default.
func (d *driver) defaultInput(w kind.Write) (*ec2.ModifyLaunchTemplateInput, error) {
	version := w.After[inventory.FieldDefaultVersion]
	if !number.MatchString(version) {
		return nil, kind.Errorf(fleet.ErrInvalid, d.place, actionModify,
			"launch template %s: %q is not the number of a version", w.ID, version)
	}
	return &ec2.ModifyLaunchTemplateInput{
		LaunchTemplateId: aws.String(w.ID), DefaultVersion: aws.String(version),
	}, nil
}

// create copies a version. Whatever goes wrong after EC2 has made the copy leaves the effect unknown, as the contract
// has it: Find then takes up from there.
func (d *driver) create(ctx context.Context, w kind.Write) (kind.Result, error) {
	in, source, err := d.copyInput(ctx, w)
	if err != nil {
		return kind.Result{}, err
	}
	out, err := d.client.CreateLaunchTemplateVersion(ctx, in)
	if err != nil {
		return kind.Result{}, fmt.Errorf("copy version %s of launch template %s: %w",
			w.Params[ParamSource], w.ID, awsx.Plain(err))
	}
	if out.LaunchTemplateVersion == nil || out.LaunchTemplateVersion.VersionNumber == nil {
		return kind.Result{}, kind.Errorf(fleet.ErrTransient, d.place, actionCreate,
			"launch template %s: EC2 did not say which version it made", w.ID)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	made := strconv.FormatInt(*out.LaunchTemplateVersion.VersionNumber, 10)
	return d.settle(ctx, w, source, made, id)
}

// copyInput reads the source of a create-version and gives the request that copies it, with the source.
func (d *driver) copyInput(
	ctx context.Context, w kind.Write,
) (*ec2.CreateLaunchTemplateVersionInput, *types.LaunchTemplateVersion, error) {
	source, err := d.source(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	if w.Token == "" || w.Marker == "" {
		return nil, nil, kind.Errorf(fleet.ErrInvalid, d.place, actionCreate,
			"launch template %s: a version is only created under a token and a marker", w.ID)
	}
	options, err := options(source, w.Params)
	if err != nil {
		return nil, nil, kind.Errorf(fleet.ErrInvalid, d.place, actionCreate, "launch template %s: %w", w.ID, err)
	}
	return &ec2.CreateLaunchTemplateVersionInput{
		LaunchTemplateId:   aws.String(w.ID),
		SourceVersion:      aws.String(w.Params[ParamSource]),
		VersionDescription: aws.String(description(w)),
		ClientToken:        aws.String(w.Token),
		LaunchTemplateData: requestData(source.LaunchTemplateData, options),
	}, source, nil
}

// description is what the version is found by. EC2 takes 255 characters.
func description(w kind.Write) string {
	return "imdsctl " + w.Marker + ": copy of version " + w.Params[ParamSource]
}

func (d *driver) source(ctx context.Context, w kind.Write) (*types.LaunchTemplateVersion, error) {
	if !number.MatchString(w.Params[ParamSource]) {
		return nil, kind.Errorf(fleet.ErrInvalid, d.place, actionCreate,
			"launch template %s: %q is not the number of a version", w.ID, w.Params[ParamSource])
	}
	return d.version(ctx, w.ID, w.Params[ParamSource])
}

// settle compares what was made with its source and removes it if they differ in more than the metadata options.
func (d *driver) settle(
	ctx context.Context, w kind.Write, source *types.LaunchTemplateVersion, made, requestID string,
) (kind.Result, error) {
	copied, err := d.visible(ctx, w.ID, made)
	if err != nil {
		return kind.Result{}, d.unknown(fmt.Errorf("compare version %s of launch template %s: %w", made, w.ID, err))
	}
	want, err := options(source, w.Params)
	if err != nil {
		return kind.Result{}, d.unknown(err)
	}
	differs := differences(source.LaunchTemplateData, copied.LaunchTemplateData)
	if got := optionsOf(copied.LaunchTemplateData); got != want {
		differs = append(differs, "MetadataOptions ("+fleet.DescribeDiff(want.State(), got.State())+")")
	}
	if len(differs) == 0 {
		return kind.Result{Outputs: map[string]string{OutputVersion: made}, RequestID: requestID}, nil
	}
	if err := d.remove(ctx, w.ID, made); err != nil {
		return kind.Result{}, d.unknown(fmt.Errorf("version %s of launch template %s differs from its source in %s, "+
			"and could not be removed: %w", made, w.ID, strings.Join(differs, ", "), err))
	}
	return kind.Result{}, kind.Errorf(fleet.ErrConflict, d.place, actionCreate,
		"a copy of version %s of launch template %s came out different in %s and was removed again; copy it by hand",
		w.Params[ParamSource], w.ID, strings.Join(differs, ", "))
}

// unknown marks an error as one that came after something was made.
func (d *driver) unknown(err error) error {
	return kind.Errorf(fleet.ErrTransient, d.place, actionCreate, "%w", err)
}

// Waits for a version that was just made, whose reading may lag behind: after 1, 2, 4, 8 and 16 seconds.
const (
	firstWait = time.Second
	waits     = 5
)

func (d *driver) visible(ctx context.Context, id, made string) (*types.LaunchTemplateVersion, error) {
	wait := firstWait
	for attempt := 0; ; attempt++ {
		v, err := d.version(ctx, id, made)
		if fleet.ClassOf(err) != fleet.ErrGone || attempt == waits {
			return v, err
		}
		if err := d.clock.Sleep(ctx, wait); err != nil {
			return nil, err
		}
		wait *= 2
	}
}

// removeMade undoes a creation.
func (d *driver) removeMade(ctx context.Context, w kind.Write) (kind.Result, error) {
	version := w.Made[OutputVersion]
	if !number.MatchString(version) {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionDelete,
			"launch template %s: it is not known which version was made", w.ID)
	}
	if w.Before[inventory.FieldDefaultVersion] == version {
		return kind.Result{}, kind.Errorf(fleet.ErrConflict, d.place, actionDelete,
			"version %s of launch template %s is its default; make another one the default first", version, w.ID)
	}
	return kind.Result{}, d.remove(ctx, w.ID, version)
}

// remove deletes one version. One that is gone already is as good as deleted.
func (d *driver) remove(ctx context.Context, id, version string) error {
	out, err := d.client.DeleteLaunchTemplateVersions(ctx, &ec2.DeleteLaunchTemplateVersionsInput{
		LaunchTemplateId: aws.String(id), Versions: []string{version},
	})
	if err != nil {
		return fmt.Errorf("delete version %s of launch template %s: %w", version, id, awsx.Plain(err))
	}
	for _, item := range out.UnsuccessfullyDeletedLaunchTemplateVersions {
		if item.ResponseError == nil {
			item.ResponseError = &types.ResponseError{Message: aws.String("no reason was given")}
		}
		if item.ResponseError.Code != types.LaunchTemplateErrorCodeLaunchTemplateVersionDoesNotExist {
			return kind.Errorf(fleet.ErrConflict, d.place, actionDelete, "delete version %s of launch template %s: %s: %s",
				version, id, item.ResponseError.Code, aws.ToString(item.ResponseError.Message))
		}
	}
	return nil
}

// Find reads all versions of the template and looks for the marker in their descriptions.
func (d *driver) Find(ctx context.Context, w kind.Write) (kind.Result, error) {
	if w.Verb != VerbCreateVersion || w.Marker == "" {
		return kind.Result{}, kind.ErrNotFound
	}
	var made string
	err := d.eachVersion(ctx, &ec2.DescribeLaunchTemplateVersionsInput{
		LaunchTemplateId: aws.String(w.ID), MaxResults: aws.Int32(kind.PageSize(ctx, mostResults)),
	}, func(v *types.LaunchTemplateVersion) error {
		if strings.Contains(aws.ToString(v.VersionDescription), w.Marker) && v.VersionNumber != nil {
			made = strconv.FormatInt(*v.VersionNumber, 10)
		}
		return nil
	})
	if err != nil {
		return kind.Result{}, fmt.Errorf("look for a version made under %s in launch template %s: %w", w.Marker, w.ID, err)
	}
	if made == "" {
		return kind.Result{}, kind.ErrNotFound
	}
	source, err := d.source(ctx, w)
	if err != nil {
		return kind.Result{}, d.unknown(err)
	}
	return d.settle(ctx, w, source, made, "")
}

// options are the source's own with the parameters over them.
func options(source *types.LaunchTemplateVersion, params map[string]string) (fleet.Options, error) {
	over := fleet.State(params).Options()
	if hop, ok := params[fleet.FieldHopLimit]; ok && strconv.Itoa(over.HopLimit) != hop {
		return fleet.Options{}, fmt.Errorf("hop limit %q is not a number from 1 to 64", hop)
	}
	if over.HopLimit != 0 {
		if err := fleet.ValidHopLimit(over.HopLimit); err != nil {
			return fleet.Options{}, err
		}
	}
	return over.Over(optionsOf(source.LaunchTemplateData)), nil
}

// errNoVersion: a describe by number that gave something else.
var errNoVersion = errors.New("EC2 gave no such version")

// version reads one numbered version with all its content.
func (d *driver) version(ctx context.Context, id, version string) (*types.LaunchTemplateVersion, error) {
	var found *types.LaunchTemplateVersion
	err := d.eachVersion(ctx, &ec2.DescribeLaunchTemplateVersionsInput{
		LaunchTemplateId: aws.String(id), Versions: []string{version}, IncludeManagedResources: aws.Bool(true),
	}, func(v *types.LaunchTemplateVersion) error {
		if strconv.FormatInt(aws.ToInt64(v.VersionNumber), 10) == version && v.LaunchTemplateData != nil {
			found = v
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read version %s of launch template %s: %w", version, id, err)
	}
	if found == nil {
		return nil, kind.Errorf(fleet.ErrGone, d.place, actionVersions, "version %s of launch template %s: %w",
			version, id, errNoVersion)
	}
	return found, nil
}

// eachVersion reads all pages of the input.
func (d *driver) eachVersion(
	ctx context.Context, in *ec2.DescribeLaunchTemplateVersionsInput, visit func(*types.LaunchTemplateVersion) error,
) error {
	for {
		out, err := d.client.DescribeLaunchTemplateVersions(ctx, in)
		if err != nil {
			return awsx.Plain(err)
		}
		for i := range out.LaunchTemplateVersions {
			if err := visit(&out.LaunchTemplateVersions[i]); err != nil {
				return err
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

// ReadVersions asks for all numbers at once. EC2 fails the whole call if one of them does not exist: then each is asked
// for by itself.
func (d *driver) ReadVersions(ctx context.Context, id string, numbers []string) (kind.Versions, error) {
	out := kind.Versions{Launch: map[string]fleet.Options{}, Attrs: map[string]string{}}
	for batch := range slices.Chunk(numbers, mostResults) {
		err := d.readVersions(ctx, id, batch, out)
		if fleet.ClassOf(err) == fleet.ErrGone {
			for _, one := range batch {
				if err = d.readVersions(ctx, id, []string{one}, out); err != nil && fleet.ClassOf(err) != fleet.ErrGone {
					break
				}
				err = nil
			}
		}
		if err != nil {
			return kind.Versions{}, fmt.Errorf("read versions of launch template %s: %w", id, err)
		}
	}
	return out, nil
}

func (d *driver) readVersions(ctx context.Context, id string, numbers []string, into kind.Versions) error {
	return d.eachVersion(ctx, &ec2.DescribeLaunchTemplateVersionsInput{
		LaunchTemplateId: aws.String(id), Versions: numbers, IncludeManagedResources: aws.Bool(true),
	}, func(v *types.LaunchTemplateVersion) error {
		n := strconv.FormatInt(aws.ToInt64(v.VersionNumber), 10)
		into.Launch[n] = optionsOf(v.LaunchTemplateData)
		if image := imageOf(v.LaunchTemplateData); image != "" {
			into.Attrs[inventory.AttrImage+"/"+n] = image
		}
		return nil
	})
}
