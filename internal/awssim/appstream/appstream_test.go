package appstream_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const account = "111122223333"

const seed = `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"appstream": {
	"fleets": [{"name": "office", "state": "RUNNING", "disable_imdsv1": false, "tags": {"team": "it"}},
		{"name": "design", "image_arn": "arn:aws:appstream:eu-west-1:111122223333:image/design"}, {"name": "waking", "state": "STARTING"}],
	"image_builders": [{"name": "b1"}, {"name": "b2", "state": "SNAPSHOTTING"}, {"name": "b3", "disable_imdsv1": true}],
	"app_block_builders": [{"name": "packager", "state": "RUNNING"}],
	"images": [{"arn": "arn:aws:appstream:eu-west-1:111122223333:image/design", "agent": "06-17-2024",
		"base_released": "2024-01-20T00:00:00Z"}]}}}}]}`

type stage struct {
	t      *testing.T
	clock  *clock.Manual
	client *sdk.Client
}

func newStage(t *testing.T) stage {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	w := awssim.New(core.Options{Clock: c, Consistency: time.Second, Settle: 10 * time.Second})
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	return stage{t, c, sdk.New(sdk.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", ""),
	})}
}

// fleet is a fleet in short: "RUNNING false"; "unset" where the API does not say.
func (s stage) fleet(name string) string {
	s.t.Helper()
	out, err := s.client.DescribeFleets(s.t.Context(), &sdk.DescribeFleetsInput{Names: []string{name}})
	if err != nil || len(out.Fleets) != 1 {
		s.t.Fatalf("describe %s: %v, %+v", name, err, out)
	}
	disable := "unset"
	if d := out.Fleets[0].DisableIMDSV1; d != nil {
		disable = fmt.Sprint(*d)
	}
	return string(out.Fleets[0].State) + " " + disable
}

func (s stage) want(step, name, want string) {
	s.t.Helper()
	if got := s.fleet(name); got != want {
		s.t.Errorf("%s: %s is %s, not %s", step, name, got, want)
	}
}

func TestAFleetIsSetWhileItIsStopped(t *testing.T) {
	s := newStage(t)
	office := aws.String("office")
	set := &sdk.UpdateFleetInput{Name: office, DisableIMDSV1: aws.Bool(true)}
	_, err := s.client.UpdateFleet(t.Context(), set)
	refused(t, "an update of a running one", err, "OperationNotPermittedException")
	if _, err := s.client.StopFleet(t.Context(), &sdk.StopFleetInput{Name: office}); err != nil {
		t.Fatal(err)
	}
	s.want("at once", "office", "RUNNING false")
	s.clock.Advance(time.Second)
	s.want("soon", "office", "STOPPING false")
	_, err = s.client.StartFleet(t.Context(), &sdk.StartFleetInput{Name: office})
	refused(t, "a start of one that is stopping", err, "ConcurrentModificationException")
	s.clock.Advance(time.Minute)
	s.want("then", "office", "STOPPED false")
	out, err := s.client.UpdateFleet(t.Context(), set)
	if err != nil || !aws.ToBool(out.Fleet.DisableIMDSV1) {
		t.Fatalf("update gave %+v, %v", out, err)
	}
	if _, err := s.client.StartFleet(t.Context(), &sdk.StartFleetInput{Name: office}); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Minute)
	s.want("in the end", "office", "RUNNING true")
}

func TestSeedsThatAreOnTheirWayArrive(t *testing.T) {
	s := newStage(t)
	s.want("first", "waking", "STARTING unset")
	s.clock.Advance(time.Minute)
	s.want("then", "waking", "RUNNING unset")
}

func TestAppBlockBuilders(t *testing.T) {
	s := newStage(t)
	name := aws.String("packager")
	if _, err := s.client.StopAppBlockBuilder(t.Context(), &sdk.StopAppBlockBuilderInput{Name: name}); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Minute)
	if _, err := s.client.UpdateAppBlockBuilder(t.Context(), &sdk.UpdateAppBlockBuilderInput{
		Name: name, DisableIMDSV1: aws.Bool(true),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.StartAppBlockBuilder(t.Context(), &sdk.StartAppBlockBuilderInput{Name: name}); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Minute)
	out, err := s.client.DescribeAppBlockBuilders(t.Context(), &sdk.DescribeAppBlockBuildersInput{MaxResults: aws.Int32(1)})
	if err != nil || len(out.AppBlockBuilders) != 1 || !aws.ToBool(out.AppBlockBuilders[0].DisableIMDSV1) ||
		out.AppBlockBuilders[0].State != "RUNNING" {
		t.Errorf("described %v, %+v", err, out)
	}
}

func TestListsImagesAndTags(t *testing.T) {
	s := newStage(t)
	var got []string
	in := &sdk.DescribeImageBuildersInput{MaxResults: aws.Int32(2)}
	for {
		out, err := s.client.DescribeImageBuilders(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range out.ImageBuilders {
			got = append(got, *b.Name+" "+string(b.State))
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	if want := []string{"b1 STOPPED", "b2 SNAPSHOTTING", "b3 STOPPED"}; !slices.Equal(got, want) {
		t.Errorf("listed %q", got)
	}
	const design = "arn:aws:appstream:eu-west-1:111122223333:image/design"
	images, err := s.client.DescribeImages(t.Context(), &sdk.DescribeImagesInput{Arns: []string{design}})
	if err != nil || len(images.Images) != 1 || *images.Images[0].AppstreamAgentVersion != "06-17-2024" ||
		images.Images[0].PublicBaseImageReleasedDate.Day() != 20 {
		t.Errorf("images: %v, %+v", err, images)
	}
	_, err = s.client.DescribeImages(t.Context(), &sdk.DescribeImagesInput{Arns: []string{design + "2"}})
	refused(t, "an image that is not there", err, "ResourceNotFoundException")
	tags, err := s.client.ListTagsForResource(t.Context(), &sdk.ListTagsForResourceInput{
		ResourceArn: aws.String("arn:aws:appstream:eu-west-1:111122223333:fleet/office"),
	})
	if err != nil || tags.Tags["team"] != "it" {
		t.Errorf("tags: %v, %+v", err, tags)
	}
	_, err = s.client.DescribeFleets(t.Context(), &sdk.DescribeFleetsInput{Names: []string{"nobody"}})
	refused(t, "a fleet that is not there", err, "ResourceNotFoundException")
	_, err = s.client.DescribeFleets(t.Context(), &sdk.DescribeFleetsInput{NextToken: aws.String("nonsense")})
	refused(t, "a bad token", err, "ValidationException")
}

func refused(t *testing.T, what string, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("%s gave %v, not %s", what, err, code)
	}
}
