package sagemaker_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const seed = `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"sagemaker": {"notebook_instances": [
	{"name": "lab", "minimum_version": "1"}, {"name": "cold", "status": "Stopped"}, {"name": "dead", "status": "Failed"}]}}}}]}`

type world struct {
	*core.World
	clock  *clock.Manual
	client *sdk.Client
}

func enter(t *testing.T, o core.Options) *world {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	o.Clock = c
	w := awssim.New(o)
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	return &world{w, c, sdk.NewFromConfig(aws.Config{Region: "eu-west-1", HTTPClient: w.Client(),
		BaseEndpoint: aws.String(awssim.BaseURL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("111122223333", "secret", "")})}
}

func (w *world) status(t *testing.T, name string) (types.NotebookInstanceStatus, string) {
	t.Helper()
	out, err := w.client.DescribeNotebookInstance(t.Context(), &sdk.DescribeNotebookInstanceInput{NotebookInstanceName: &name})
	if err != nil {
		t.Fatal(err)
	}
	minimum := ""
	if c := out.InstanceMetadataServiceConfiguration; c != nil {
		minimum = *c.MinimumInstanceMetadataServiceVersion
	}
	return out.NotebookInstanceStatus, minimum
}

func (w *world) stop(t *testing.T, name string) error {
	t.Helper()
	_, err := w.client.StopNotebookInstance(t.Context(), &sdk.StopNotebookInstanceInput{NotebookInstanceName: &name})
	return err
}

func (w *world) start(t *testing.T, name string) error {
	t.Helper()
	_, err := w.client.StartNotebookInstance(t.Context(), &sdk.StartNotebookInstanceInput{NotebookInstanceName: &name})
	return err
}

func (w *world) update(t *testing.T, name, version string) error {
	t.Helper()
	_, err := w.client.UpdateNotebookInstance(t.Context(), &sdk.UpdateNotebookInstanceInput{NotebookInstanceName: &name,
		InstanceMetadataServiceConfiguration: &types.InstanceMetadataServiceConfiguration{
			MinimumInstanceMetadataServiceVersion: &version}})
	return err
}

func mustRefuse(t *testing.T, err error, words string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != "ValidationException" || !strings.Contains(api.ErrorMessage(), words) {
		t.Errorf("got %v, want a ValidationException with %q", err, words)
	}
}

// TestStopUpdateStart goes through every status. The versions before and after differ, so that a reader in between would
// notice.
func TestStopUpdateStart(t *testing.T) {
	w := enter(t, core.Options{Consistency: -1})
	mustRefuse(t, w.update(t, "lab", "2"), "Status (InService) not in ([Stopped]). Unable to transition to (Updating)")
	mustRefuse(t, w.start(t, "lab"), "Unable to transition to (Pending)")
	for _, step := range []struct {
		do            func() error
		between, then types.NotebookInstanceStatus
		minimum       string
	}{
		{func() error { return w.stop(t, "lab") }, types.NotebookInstanceStatusStopping, types.NotebookInstanceStatusStopped, "1"},
		{func() error { return w.update(t, "lab", "2") }, types.NotebookInstanceStatusUpdating, types.NotebookInstanceStatusStopped, "2"},
		{func() error { return w.start(t, "lab") }, types.NotebookInstanceStatusPending, types.NotebookInstanceStatusInService, "2"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got, _ := w.status(t, "lab"); got != step.between {
			t.Errorf("it is %s, not %s", got, step.between)
		}
		mustRefuse(t, w.stop(t, "lab"), "Unable to transition to (Stopping)")
		w.clock.Advance(time.Minute)
		if got, minimum := w.status(t, "lab"); got != step.then || minimum != step.minimum {
			t.Errorf("it is %s with %q, not %s with %q", got, minimum, step.then, step.minimum)
		}
	}
}

func TestReadsLagAndAbsentStaysAbsent(t *testing.T) {
	w := enter(t, core.Options{})
	if _, minimum := w.status(t, "cold"); minimum != "" {
		t.Errorf("an old notebook instance says %q", minimum)
	}
	if err := w.update(t, "cold", "1"); err != nil {
		t.Fatal(err)
	}
	if _, minimum := w.status(t, "cold"); minimum != "" {
		t.Errorf("a read after the write says %q at once", minimum)
	}
	w.clock.Advance(time.Minute)
	if _, minimum := w.status(t, "cold"); minimum != "1" {
		t.Errorf("then %q", minimum)
	}
}

func TestRefusals(t *testing.T) {
	w := enter(t, core.Options{})
	_, err := w.client.DescribeNotebookInstance(t.Context(), &sdk.DescribeNotebookInstanceInput{NotebookInstanceName: aws.String("gone")})
	mustRefuse(t, err, "RecordNotFound")
	mustRefuse(t, w.stop(t, "dead"), "Status (Failed) not in ([InService])")
	mustRefuse(t, w.update(t, "cold", "3"), "minimumInstanceMetadataServiceVersion")
	_, err = w.client.UpdateNotebookInstance(t.Context(), &sdk.UpdateNotebookInstanceInput{NotebookInstanceName: aws.String("cold"),
		RoleArn: aws.String("arn:aws:iam::111122223333:role/other")})
	mustRefuse(t, err, "RoleArn is not known to the simulator")
	_, err = w.client.ListNotebookInstances(t.Context(), &sdk.ListNotebookInstancesInput{MaxResults: aws.Int32(101)})
	mustRefuse(t, err, "maxResults")
	if err := w.start(t, "dead"); err != nil {
		t.Errorf("a failed one cannot be started: %v", err)
	}
}

func FuzzPageToken(f *testing.F) {
	f.Add("bGFi")
	f.Fuzz(func(t *testing.T, token string) {
		w := enter(t, core.Options{})
		_, err := w.client.ListNotebookInstances(t.Context(), &sdk.ListNotebookInstancesInput{NextToken: &token})
		if err != nil {
			mustRefuse(t, err, "")
		}
	})
}
