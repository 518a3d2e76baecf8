package appstream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

const image = "arn:aws:appstream:eu-west-1:111122223333:image/office-7"

func TestPropose(t *testing.T) {
	attrs := func(agent string) map[string]string {
		a := map[string]string{AttrImage: image}
		if agent != "" {
			a[AttrAgent] = agent
		}
		return a
	}
	for name, tt := range map[string]struct {
		id, state string
		attrs     map[string]string
		status    assess.Status
		needs     string
		manual    string
	}{
		"running":           {"fleet/office", stateRunning, attrs("2024-06-17"), assess.Ready, "stop set-imds start", ""},
		"stopped":           {"fleet/office", stateStopped, attrs("2024-01-16"), assess.Ready, "set-imds", ""},
		"newest agent":      {"fleet/office", stateStopped, attrs(agentLatest), assess.Ready, "set-imds", ""},
		"old agent":         {"fleet/office", stateRunning, attrs("2024-01-15"), assess.Ready, "", "is of 2024-01-15"},
		"unknown agent":     {"fleet/office", stateRunning, attrs(""), assess.Ready, "", "could not be read"},
		"elastic":           {"fleet/burst", stateRunning, nil, assess.Ready, "stop set-imds start", ""},
		"not ready":         {"fleet/office", stateRunning, attrs("2024-06-17"), assess.Unknown, "", ""},
		"builder":           {"app-block-builder/p", stateRunning, nil, assess.Ready, "stop-builder set-builder-imds start-builder", ""},
		"stopped builder":   {"app-block-builder/p", stateStopped, nil, assess.Ready, "set-builder-imds", ""},
		"image builder":     {"image-builder/b", stateRunning, attrs("2024-06-17"), assess.Ready, "", "when it is created"},
		"unknown builder":   {"image-builder/b", stateRunning, attrs("2024-06-17"), assess.Unknown, "", "when it is created"},
		"image builder set": {"image-builder/b", stateRunning, nil, assess.Done, "", ""},
	} {
		r := &inventory.Resource{
			Ref:   fleet.Ref{Place: place, Kind: inventory.KindAppStream, ID: tt.id},
			State: fleet.State{FieldDisableV1: "false", FieldState: tt.state}, Attrs: tt.attrs,
		}
		needs, manuals := propose(kind.Case{Resource: r, Verdict: &assess.Verdict{Status: tt.status}})
		var got []string
		for i, n := range needs {
			got = append(got, n.Action)
			if i > 0 && (len(n.After) != 1 || n.After[0] != needs[i-1].Key()) || i == 0 && len(n.After) != 0 {
				t.Errorf("%s: %s comes after %v", name, n.Action, n.After)
			}
		}
		if strings.Join(got, " ") != tt.needs {
			t.Errorf("%s: got %q", name, got)
		}
		if (tt.manual != "") != (len(manuals) == 1) || tt.manual != "" && !strings.Contains(manuals[0].Reason, tt.manual) {
			t.Errorf("%s: got %+v", name, manuals)
		}
	}
}

func TestCommands(t *testing.T) {
	off := fleet.State{FieldDisableV1: "false", FieldState: stateStopped}
	running, disable := fleet.State{FieldState: stateRunning}, fleet.State{FieldDisableV1: "true"}
	for name, tt := range map[string]struct {
		id, verb string
		patch    fleet.State
		want     string
	}{
		"start":          {"fleet/office", VerbStart, running, "start-fleet --region eu-west-1 --name office"},
		"set":            {"fleet/office", VerbSet, disable, "update-fleet --region eu-west-1 --name office --disable-imdsv1"},
		"set a builder":  {"app-block-builder/p", VerbSetBuilder, disable, "update-app-block-builder --region eu-west-1 --name p --disable-imdsv1"},
		"builder":        {"app-block-builder/p", VerbStartBuilder, running, "start-app-block-builder --region eu-west-1 --name p"},
		"wrong sort":     {"app-block-builder/p", VerbStart, running, ""},
		"image builder":  {"image-builder/p", VerbSet, disable, ""},
		"two fields":     {"fleet/office", VerbSet, fleet.State{FieldDisableV1: "true", FieldState: stateRunning}, ""},
		"wrong field":    {"fleet/office", VerbStart, disable, ""},
		"removed":        {"fleet/office", VerbSet, fleet.State{FieldDisableV1: fleet.Absent}, ""},
		"nothing":        {"fleet/office", VerbSet, nil, ""},
		"no such name":   {"fleet/$(reboot)", VerbStart, running, ""},
		"another state":  {"fleet/office", VerbStart, fleet.State{FieldState: "DREAMING"}, ""},
		"nobody's verb":  {"fleet/office", "paint", running, ""},
		"not of AWS":     {"office", VerbStart, running, ""},
		"an empty value": {"fleet/office", VerbSet, fleet.State{FieldDisableV1: ""}, ""},
	} {
		w := kind.Write{Place: place, ID: tt.id, Verb: tt.verb, Before: off, After: off.With(tt.patch)}
		want := ""
		if tt.want != "" {
			want = "aws appstream " + tt.want
		}
		if got := commands(w); strings.Join(got, "\n") != want {
			t.Errorf("%s: got %q", name, got)
		}
	}
	back := kind.Write{Place: place, ID: "fleet/office", Verb: VerbStop, Revert: true, Before: off,
		After: off.With(fleet.State{FieldState: stateRunning})}
	if got := commands(back); len(got) != 1 || !strings.Contains(got[0], "start-fleet") {
		t.Errorf("taking a stop back: %q", got)
	}
}

func TestSettled(t *testing.T) {
	for in, want := range map[string]string{
		"RUNNING": "RUNNING running false", "STOPPED": "STOPPED stopped false", "STARTING": "RUNNING pending true",
		"STOPPING": "STOPPED pending true", "FAILED": "FAILED stopped false", "SNAPSHOTTING": "RUNNING pending true",
		"A_NEW_ONE": "RUNNING pending true",
	} {
		state, status, settling := settled(in)
		if got := fmt.Sprint(state, " ", status, " ", settling); got != want {
			t.Errorf("%s is %s, not %s", in, got, want)
		}
	}
}

func TestImageAgent(t *testing.T) {
	released := time.Date(2023, 11, 2, 0, 0, 0, 0, time.UTC)
	newest := types.Image{AppstreamAgentVersion: aws.String("01-02-2020")}
	newest.LatestAppstreamAgentVersion = types.LatestAppstreamAgentVersionTrue
	for name, tt := range map[string]struct {
		image types.Image
		want  string
	}{
		"newest":        {newest, agentLatest},
		"dated":         {types.Image{AppstreamAgentVersion: aws.String("06-17-2024"), PublicBaseImageReleasedDate: &released}, "2024-06-17"},
		"by its base":   {types.Image{AppstreamAgentVersion: aws.String("1.1"), PublicBaseImageReleasedDate: &released}, "2023-11-02"},
		"nothing known": {types.Image{}, ""},
	} {
		if got := imageAgent(&tt.image); got != tt.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// FuzzAgentDate: a version is a date, or the newest, or not understood.
func FuzzAgentDate(f *testing.F) {
	f.Add("06-17-2024")
	f.Add("2024-06-17")
	f.Add("LATEST")
	f.Add("13-45-2024")
	f.Fuzz(func(t *testing.T, version string) {
		got := agentDate(version)
		if got == "" || got == agentLatest && version == "LATEST" {
			return
		}
		if d, err := time.Parse(time.DateOnly, got); err != nil || version != d.Format("01-02-2006") && version != got {
			t.Errorf("%q gave %q", version, got)
		}
	})
}
