package sagemakernotebook

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func notebook(status, minimum string) *inventory.Resource {
	r := &inventory.Resource{Ref: fleet.Ref{Place: place, Kind: inventory.KindNotebook, ID: "lab"}, State: fleet.State{FieldStatus: status}}
	if minimum != "" {
		r.State[FieldMinimum] = minimum
	}
	r.Says = says(r.State)
	return r
}

func TestPropose(t *testing.T) {
	for name, tt := range map[string]struct {
		resource *inventory.Resource
		status   assess.Status
		verbs    string
		commands []string // of the manual step, by operation
	}{
		"stopped":         {notebook("Stopped", "1"), assess.Ready, "set-minimum-version", nil},
		"in service":      {notebook("InService", "1"), assess.Ready, "stop set-minimum-version start", nil},
		"not ready":       {notebook("InService", "1"), assess.Unknown, "", nil},
		"done":            {notebook("InService", "2"), assess.Ready, "", nil},
		"failed":          {notebook("Failed", "1"), assess.Ready, "", []string{"start-notebook-instance", "wait"}},
		"unsaid and cold": {notebook("Stopped", ""), assess.Ready, "", []string{"update-notebook-instance", "wait"}},
		"unsaid in service": {notebook("InService", ""), assess.Ready, "", []string{"stop-notebook-instance", "wait",
			"update-notebook-instance", "wait", "start-notebook-instance", "wait"}},
	} {
		t.Run(name, func(t *testing.T) {
			needs, manuals := propose(kind.Case{Resource: tt.resource,
				Verdict: &assess.Verdict{Status: tt.status, Want: fleet.Options{Tokens: fleet.TokensRequired}}})
			var verbs []string
			for i, n := range needs {
				verbs = append(verbs, n.Action)
				if i > 0 && !slices.Equal(n.After, []plan.Key{needs[i-1].Key()}) {
					t.Errorf("%s comes after %v", n.Action, n.After)
				}
			}
			if strings.Join(verbs, " ") != tt.verbs || (len(manuals) > 0) != (tt.commands != nil) {
				t.Fatalf("got %v and %+v", verbs, manuals)
			}
			if tt.commands == nil {
				return
			}
			var operations []string
			for _, c := range manuals[0].Commands {
				operations = append(operations, strings.Fields(c)[2])
			}
			if !slices.Equal(operations, tt.commands) {
				t.Errorf("commands %q", manuals[0].Commands)
			}
		})
	}
}

// TestChainAndItsInverse follows the states of a chain forth and back: the inverse of each verb has the commands that
// restore what was there.
func TestChainAndItsInverse(t *testing.T) {
	needs, _ := propose(kind.Case{Resource: notebook("InService", "1"),
		Verdict: &assess.Verdict{Status: assess.Ready, Want: fleet.Options{Tokens: fleet.TokensRequired}}})
	state := fleet.State{FieldStatus: "InService", FieldMinimum: "1"}
	var undo []kind.Write
	for _, n := range needs {
		after := state.With(n.Patch)
		if len(commands(kind.Write{Place: place, ID: "lab", Verb: n.Action, Before: state, After: after})) != 2 {
			t.Errorf("%s has no commands", n.Action)
		}
		undo = append(undo, kind.Write{Place: place, ID: "lab", Verb: n.Action, Revert: true, Before: after, After: state})
		state = after
	}
	slices.Reverse(undo)
	var lines []string
	for _, w := range undo {
		lines = append(lines, commands(w)...)
		state = w.After
	}
	want := []string{
		"aws sagemaker stop-notebook-instance --region eu-west-1 --notebook-instance-name lab",
		"aws sagemaker wait --region eu-west-1 notebook-instance-stopped --notebook-instance-name lab",
		"aws sagemaker update-notebook-instance --region eu-west-1 --notebook-instance-name lab " +
			"--instance-metadata-service-configuration MinimumInstanceMetadataServiceVersion=1",
		"aws sagemaker wait --region eu-west-1 notebook-instance-stopped --notebook-instance-name lab",
		"aws sagemaker start-notebook-instance --region eu-west-1 --notebook-instance-name lab",
		"aws sagemaker wait --region eu-west-1 notebook-instance-in-service --notebook-instance-name lab",
	}
	if !slices.Equal(lines, want) || state[FieldStatus] != "InService" || state[FieldMinimum] != "1" {
		t.Errorf("ends at %v by\n%s", state, strings.Join(lines, "\n"))
	}
	if got := commands(kind.Write{Place: place, ID: "--profile", Verb: VerbStop, After: fleet.State{FieldStatus: "Stopped"}}); got != nil {
		t.Errorf("an option for a name gave %q", got)
	}
}

func TestWriteRefusesWhatSageMakerCannot(t *testing.T) {
	d := &driver{place: place}
	stopped := fleet.State{FieldStatus: "Stopped", FieldMinimum: "2"}
	for name, tt := range map[string]struct {
		w     kind.Write
		class fleet.ErrorClass
	}{
		"set in service": {kind.Write{Verb: VerbSetMinimum, Before: fleet.State{FieldStatus: "InService"},
			After: fleet.State{FieldStatus: "InService", FieldMinimum: "2"}}, fleet.ErrConflict},
		"back to unsaid": {kind.Write{Verb: VerbSetMinimum, Before: stopped, After: fleet.State{FieldStatus: "Stopped"}}, fleet.ErrConflict},
		"stop and set": {kind.Write{Verb: VerbStop, Before: fleet.State{FieldStatus: "InService", FieldMinimum: "1"}, After: stopped},
			fleet.ErrInvalid},
		"no verb": {kind.Write{Verb: "delete", Before: stopped, After: stopped}, fleet.ErrInvalid},
	} {
		if _, err := d.Write(t.Context(), tt.w); fleet.ClassOf(err) != tt.class {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStatusesSettle(t *testing.T) {
	for _, s := range types.NotebookInstanceStatus("").Values() {
		got := standing(s)
		settled := slices.Contains([]types.NotebookInstanceStatus{"InService", "Stopped", "Failed", "Deleting"}, s)
		if got.settling == settled {
			t.Errorf("%s: settling %t", s, got.settling)
		}
		if got.settling && got.settled != statusInService && got.settled != statusStopped {
			t.Errorf("%s settles at %s", s, got.settled)
		}
	}
	if got := says(fleet.State{}); got.Tokens != fleet.TokensOptional {
		t.Errorf("unsaid means %+v", got)
	}
}
