package accountdefaults

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func TestStateLeavesOutWhatNobodyChose(t *testing.T) {
	for _, in := range []*types.InstanceMetadataDefaultsResponse{
		nil, {}, {HttpTokens: "no-preference", HttpPutResponseHopLimit: aws.Int32(-1), HttpTokensEnforced: "no-preference"},
	} {
		if got := state(in); len(got) != 0 || got == nil {
			t.Errorf("%+v: got %v, want an empty state", in, got)
		}
	}
	got := state(&types.InstanceMetadataDefaultsResponse{HttpTokens: "required", HttpPutResponseHopLimit: aws.Int32(2)})
	if want := (fleet.State{fleet.FieldTokens: "required", fleet.FieldHopLimit: "2"}); !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPropose(t *testing.T) {
	required := fleet.State{fleet.FieldTokens: fleet.TokensRequired}
	ready := assess.Verdict{Status: assess.Ready, Want: required.Options()}
	unknown := assess.Verdict{Status: assess.Unknown, Want: required.Options()}
	policy := map[string]string{inventory.AttrManagedBy: managedByPolicy}
	tests := []struct {
		name    string
		state   fleet.State
		attrs   map[string]string
		verdict assess.Verdict
		patch   fleet.State
		manual  bool
	}{
		{"absent", fleet.State{}, nil, ready, required, false},
		{"required already", required, nil, ready, nil, false},
		{"not ready", fleet.State{}, nil, unknown, nil, false},
		{"declarative policy", fleet.State{}, policy, ready, nil, true},
		{"declarative policy, done", required, policy, assess.Verdict{Status: assess.Done}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &inventory.Resource{
				Ref: fleet.Ref{Place: place, Kind: inventory.KindAccountDefaults, ID: ID}, State: tt.state, Attrs: tt.attrs,
			}
			needs, manuals := propose(kind.Case{Resource: r, Verdict: &tt.verdict})
			if (len(manuals) > 0) != tt.manual || (len(needs) > 0) != (tt.patch != nil) {
				t.Fatalf("got %v and %v", needs, manuals)
			}
			if len(needs) > 0 && (!needs[0].Patch.Equal(tt.patch) || needs[0].Stage != plan.StageDefaults) {
				t.Errorf("got %+v", needs[0])
			}
		})
	}
}

func TestCommandsTakeBackWithNoPreference(t *testing.T) {
	w := kind.Write{
		Place: place, ID: ID, Verb: VerbSetDefaults,
		Before: fleet.State{fleet.FieldTokens: "required", fleet.FieldHopLimit: "2", fleet.FieldTags: "enabled"},
		After:  fleet.State{fleet.FieldTags: "enabled"},
	}
	want := []string{"aws ec2 modify-instance-metadata-defaults --region eu-west-1 --http-tokens no-preference " +
		"--http-put-response-hop-limit -1"}
	if got := commands(w); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	w.After = w.Before
	if got := commands(w); got != nil {
		t.Errorf("nothing to change gave %q", got)
	}
}
