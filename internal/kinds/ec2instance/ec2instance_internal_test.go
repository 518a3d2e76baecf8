package ec2instance

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func instance(s fleet.State) *inventory.Resource {
	return &inventory.Resource{
		Ref:    fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: "i-0123456789abcdef0"},
		Status: inventory.StatusRunning, State: s,
	}
}

func options(tokens, hop string) fleet.State {
	return fleet.State{fleet.FieldTokens: tokens, fleet.FieldHopLimit: hop, fleet.FieldEndpoint: fleet.Enabled}
}

func TestPropose(t *testing.T) {
	ready := assess.Verdict{Status: assess.Ready, Want: fleet.Options{Tokens: fleet.TokensRequired, HopLimit: 2}}
	managedVerdict := assess.Verdict{Status: assess.Blocked, Reasons: []assess.Reason{{Code: assess.CodeManaged}}}
	tests := []struct {
		name     string
		resource *inventory.Resource
		verdict  assess.Verdict
		want     []string // variants
		manual   bool
	}{
		{"both differ", instance(options("optional", "1")), ready, []string{VariantHopLimit, VariantTokens}, false},
		{"tokens differ", instance(options("optional", "2")), ready, []string{VariantTokens}, false},
		{"hop limit differs", instance(options("required", "5")), ready, []string{VariantHopLimit}, false},
		{"nothing differs", instance(options("required", "2")), ready, nil, false},
		{"hop limit is kept", instance(options("optional", "5")), assess.Verdict{
			Status: assess.Ready, Want: fleet.Options{Tokens: fleet.TokensRequired},
		}, []string{VariantTokens}, false},
		{"unknown", instance(options("optional", "1")), assess.Verdict{
			Status: assess.Unknown, Want: ready.Want,
		}, []string{VariantHopLimit}, false},
		{"unknown, with more hops than it needs", instance(options("optional", "3")), assess.Verdict{
			Status: assess.Unknown, Want: ready.Want,
		}, nil, false},
		{"exempt", instance(options("optional", "1")), assess.Verdict{Status: assess.Exempt, Want: ready.Want}, nil, false},
		{"done", instance(options("required", "1")), assess.Verdict{
			Status: assess.Done, Want: fleet.Options{HopLimit: 2},
		}, []string{VariantHopLimit}, false},
		{"managed", instance(options("optional", "1")), managedVerdict, nil, true},
		{"endpoint disabled", instance(fleet.State{
			fleet.FieldTokens: "optional", fleet.FieldEndpoint: fleet.Disabled,
		}), ready, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			needs, manuals := propose(caseOf(tt.resource, &tt.verdict))
			var got []string
			for i := range needs {
				got = append(got, needs[i].Variant)
			}
			if !slices.Equal(got, tt.want) || (len(manuals) > 0) != tt.manual {
				t.Errorf("got %q and %v", got, manuals)
			}
			if len(needs) == 2 && (needs[0].Stage != plan.StageHopLimit || needs[1].Stage != plan.StageFleet ||
				!slices.Equal(needs[1].After, []plan.Key{needs[0].Key()})) {
				t.Errorf("the hop limit must come first, in a stage of its own: %+v", needs)
			}
		})
	}
	terminated := instance(options("optional", "1"))
	terminated.Status = inventory.StatusTerminated
	if needs, manuals := propose(caseOf(terminated, &ready)); len(needs)+len(manuals) > 0 {
		t.Errorf("a terminated instance is no target: %v %v", needs, manuals)
	}
}

// noCalls is an HTTP client that must not be used.
type noCalls struct{ t *testing.T }

func (c noCalls) Do(r *http.Request) (*http.Response, error) {
	c.t.Errorf("a call was made: %s", r.URL)
	return nil, errors.New("no calls here")
}

func TestDisabledEndpointIsNeverWritten(t *testing.T) {
	d := Open(aws.Config{Region: "eu-west-1", HTTPClient: noCalls{t}}, place, nil)
	off := fleet.State{fleet.FieldTokens: "optional", fleet.FieldEndpoint: fleet.Disabled}
	for _, w := range []kind.Write{
		{Before: off, After: off.With(fleet.State{fleet.FieldTokens: "required"})},
		{Before: off, After: off.With(fleet.State{fleet.FieldEndpoint: fleet.Enabled})},
		{Before: off.With(fleet.State{fleet.FieldEndpoint: fleet.Enabled}), After: off},
		{Before: fleet.State{}, After: fleet.State{fleet.FieldTokens: "required"}},
	} {
		w.Verb, w.ID, w.Place = VerbSetOptions, "i-0123456789abcdef0", place
		if _, err := d.Write(t.Context(), w); fleet.ClassOf(err) != fleet.ErrConflict {
			t.Errorf("%v → %v: got %v, want a conflict", w.Before, w.After, err)
		}
		if c := commands(w); c != nil {
			t.Errorf("%v → %v: there are commands %q", w.Before, w.After, c)
		}
	}
}

func TestCommands(t *testing.T) {
	after := options("required", "2").With(fleet.State{fleet.FieldTags: "enabled"})
	w := kind.Write{Place: place, ID: "i-0123456789abcdef0", Before: options("optional", "2"), After: after}
	want := []string{"aws ec2 modify-instance-metadata-options --region eu-west-1 --instance-id i-0123456789abcdef0 " +
		"--http-tokens required --http-put-response-hop-limit 2 --http-endpoint enabled --instance-metadata-tags enabled"}
	if got := commands(w); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	w.ID = "i-0123456789abcdef0; reboot"
	if got := commands(w); got != nil {
		t.Errorf("an id that is none gave %q", got)
	}
}

// What operates an instance by itself says what is to be done, and the instance not a second time.
func TestTheOperatorSpeaksForItsInstance(t *testing.T) {
	r := instance(options("optional", "1"))
	r.Owner = fleet.Owner{Type: fleet.OwnerService, Name: "workspaces-instances.amazonaws.com", Managed: true}
	operator := inventory.Resource{
		Ref:   fleet.Ref{Place: place, Kind: inventory.KindWorkspace, ID: "wsinst-12345678"},
		Links: []inventory.Link{{Relation: inventory.Operates, To: r.Ref}},
	}
	blocked := &assess.Verdict{Status: assess.Blocked, Reasons: []assess.Reason{{Code: assess.CodeManaged}}}
	for _, others := range [][]inventory.Resource{nil, {operator}} {
		ix := inventory.NewIndex(&inventory.Snapshot{Resources: append([]inventory.Resource{*r}, others...)})
		if _, manuals := propose(kind.Case{Resource: r, Verdict: blocked, Index: ix}); len(manuals) != 1-len(others) {
			t.Errorf("with %d operators the instance has %v", len(others), manuals)
		}
	}
}

func TestProductCodesOfAnInstance(t *testing.T) {
	got := attrs(&types.Instance{ProductCodes: []types.ProductCode{
		{ProductCodeId: aws.String("b")}, {ProductCodeId: aws.String("a"), ProductCodeType: types.ProductCodeValuesMarketplace}, {},
	}})
	if got[inventory.AttrProductCodes] != "a,b" {
		t.Errorf("%q, want them sorted and joined", got[inventory.AttrProductCodes])
	}
	if _, there := attrs(&types.Instance{})[inventory.AttrProductCodes]; there {
		t.Error("an instance without product codes has the attribute")
	}
}

func TestGroup(t *testing.T) {
	d := &driver{place: place}
	const asg, spot, fleetTag = kind.TagGroup, "aws:ec2spot:fleet-request-id", "aws:ec2:fleet-id"
	for _, tt := range []struct {
		name string
		tags map[string]string
		want string // kind and id
	}{
		{"none", map[string]string{"Name": "web"}, "/"},
		{"a group", map[string]string{asg: "web"}, "auto-scaling-group/web"},
		{"a group that launches by a fleet", map[string]string{fleetTag: "fleet-1", asg: "web"}, "auto-scaling-group/web"},
		{"a fleet", map[string]string{fleetTag: "fleet-1"}, "ec2-fleet/fleet-1"},
		{"a Spot Fleet", map[string]string{spot: "sfr-1"}, "spot-fleet/sfr-1"},
	} {
		if got := d.group(tt.tags); got.Kind+"/"+got.ID != tt.want {
			t.Errorf("%s: got %s", tt.name, got)
		}
	}
}

func FuzzNamedMissing(f *testing.F) {
	f.Add("The instance IDs 'i-0123456789abcdef0, i-01234567' do not exist")
	f.Add("The instance ID 'i-0123456789abcdef0' does not exist")
	f.Add("")
	asked := []string{"i-0123456789abcdef0", "i-01234567", "i-0fedcba9876543210"}
	f.Fuzz(func(t *testing.T, message string) {
		api := &smithy.GenericAPIError{Code: "InvalidInstanceID.NotFound", Message: message}
		err := &fleet.CallError{Class: fleet.ErrGone, Err: api}
		for id := range namedMissing(err, asked) {
			if !slices.Contains(asked, id) || !strings.Contains(message, id) {
				t.Errorf("%q: %s was not asked for or not named", message, id)
			}
		}
	})
}

func TestFindHasNothingToFind(t *testing.T) {
	d := Open(aws.Config{Region: "eu-west-1", HTTPClient: noCalls{t}}, place, nil)
	if _, err := d.Find(context.Background(), kind.Write{}); !errors.Is(err, kind.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// caseOf is a resource that nothing surrounds.
func caseOf(r *inventory.Resource, v *assess.Verdict) kind.Case {
	return kind.Case{Resource: r, Verdict: v, Index: inventory.NewIndex(&inventory.Snapshot{Resources: []inventory.Resource{*r}})}
}
