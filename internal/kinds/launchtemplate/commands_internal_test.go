package launchtemplate

import (
	"slices"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

func TestCommands(t *testing.T) {
	const id = "lt-0123456789abcdef0"
	key := plan.NeedKey(templateRef, VerbCreateVersion, "copy-of-3")
	output := plan.OutputOf(key, OutputVersion)
	tests := []struct {
		name string
		w    kind.Write
		want []string
	}{
		{"create", kind.Write{Verb: VerbCreateVersion, Params: map[string]string{
			ParamSource: "3", fleet.FieldTokens: "required", fleet.FieldHopLimit: "2",
		}}, []string{"aws ec2 create-launch-template-version --region eu-west-1 --launch-template-id " + id +
			` --source-version 3 --launch-template-data ` +
			`'{"MetadataOptions":{"HttpPutResponseHopLimit":2,"HttpTokens":"required"}}'`}},
		{"take back what was made", kind.Write{
			Verb: VerbCreateVersion, Revert: true, Made: map[string]string{OutputVersion: "6"},
			Before: fleet.State{inventory.FieldLatestVersion: "9"},
		}, []string{"aws ec2 delete-launch-template-versions --region eu-west-1 --launch-template-id " + id +
			" --versions 6"}},
		{"take back what the plan will make", kind.Write{
			Verb: VerbCreateVersion, Revert: true, Before: fleet.State{inventory.FieldLatestVersion: output},
		}, []string{"aws ec2 delete-launch-template-versions --region eu-west-1 --launch-template-id " + id +
			" --versions '" + output + "'"}},
		{"default", kind.Write{Verb: VerbSetDefault, After: fleet.State{inventory.FieldDefaultVersion: "3"}},
			[]string{"aws ec2 modify-launch-template --region eu-west-1 --launch-template-id " + id + " --default-version 3"}},
		{"no number", kind.Write{
			Verb: VerbSetDefault, After: fleet.State{inventory.FieldDefaultVersion: "3 --dry-run"},
		}, nil},
		{"no verb", kind.Write{Verb: "delete"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.w.Place, tt.w.ID = place, id
			if got := commands(tt.w); !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			tt.w.ID = "lt-; reboot"
			if got := commands(tt.w); got != nil {
				t.Errorf("an id that is none gave %q", got)
			}
		})
	}
}
