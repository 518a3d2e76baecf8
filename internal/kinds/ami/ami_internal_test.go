package ami

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func image(owner string, s fleet.State) *inventory.Resource {
	return &inventory.Resource{
		Ref:   fleet.Ref{Place: place, Kind: inventory.KindImage, ID: "ami-0123456789abcdef0"},
		State: s, Attrs: map[string]string{inventory.AttrImageOwner: owner},
	}
}

func TestPropose(t *testing.T) {
	v2 := fleet.State{FieldSupport: supportV2}
	for _, tt := range []struct {
		name   string
		image  *inventory.Resource
		status assess.Status
		want   bool
	}{
		{"ready", image("111122223333", fleet.State{}), assess.Ready, true},
		{"somebody else's", image("137112412989", fleet.State{}), assess.Ready, false},
		{"v2.0 already", image("111122223333", v2), assess.Ready, false},
		{"blocked", image("111122223333", fleet.State{}), assess.Blocked, false},
		{"nothing uses it", image("111122223333", fleet.State{}), assess.Unknown, false},
		{"exempt", image("111122223333", fleet.State{}), assess.Exempt, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			needs, manuals := propose(kind.Case{Resource: tt.image, Verdict: &assess.Verdict{Status: tt.status}})
			if len(manuals) > 0 || len(needs) > 0 != tt.want {
				t.Fatalf("got %+v and %+v", needs, manuals)
			}
			if tt.want && (needs[0].Stage != plan.StageImages || needs[0].Patch[FieldSupport] != supportV2) {
				t.Errorf("got %+v", needs[0])
			}
		})
	}
	if v, _ := new(Kind()).Verb(VerbRequireTokens); v.Undo != kind.UndoNone {
		t.Errorf("what an image requires can be undone: %v", v.Undo)
	}
}

func TestCommands(t *testing.T) {
	w := kind.Write{Place: place, ID: "ami-0123456789abcdef0", Before: fleet.State{}, After: fleet.State{FieldSupport: supportV2}}
	want := []string{"aws ec2 modify-image-attribute --region eu-west-1 --image-id ami-0123456789abcdef0 --imds-support v2.0"}
	if got := commands(w); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	back := w
	back.Revert, back.Before, back.After = true, w.After, w.Before
	other := w
	other.ID = "ami-1; reboot"
	for _, none := range []kind.Write{back, other} {
		if got := commands(none); got != nil {
			t.Errorf("%+v gave %q", none, got)
		}
	}
}

func TestNeverUndone(t *testing.T) {
	d := &driver{place: place}
	w := kind.Write{ID: "ami-0123456789abcdef0", Verb: VerbRequireTokens, Revert: true, Before: fleet.State{FieldSupport: supportV2}}
	if _, err := d.Write(t.Context(), w); fleet.ClassOf(err) != fleet.ErrInvalid {
		t.Errorf("undo of what cannot be undone: %v", err)
	}
}

// The attributes by which an appliance is recognised: product codes, name, owner and age.
func TestAppliancesAreTold(t *testing.T) {
	d := &driver{place: place}
	r := d.resource(&types.Image{
		ImageId: aws.String("ami-0123456789abcdef0"), Name: aws.String("PA-VM-AWS-9.1.3"), OwnerId: aws.String("679593333241"),
		CreationDate: aws.String("2020-06-01T10:00:00.000Z"),
		ProductCodes: []types.ProductCode{
			{ProductCodeId: aws.String("b"), ProductCodeType: types.ProductCodeValuesMarketplace}, {ProductCodeId: aws.String("a")}, {},
			{ProductCodeId: aws.String("b")},
		},
	})
	for name, want := range map[string]string{
		inventory.AttrProductCodes: "a,b", attrName: "PA-VM-AWS-9.1.3", inventory.AttrImageOwner: "679593333241",
		inventory.AttrCreated: "2020-06-01T10:00:00Z",
	} {
		if got := r.Attrs[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if _, there := d.resource(&types.Image{}).Attrs[inventory.AttrProductCodes]; there {
		t.Error("an image without product codes has the attribute")
	}
}

func FuzzStamp(f *testing.F) {
	f.Add("2025-03-01T12:00:00.000Z")
	f.Add("2025-03-01T12:00:00+02:00")
	f.Add("")
	f.Add("yesterday")
	f.Fuzz(func(t *testing.T, text string) {
		got := stamp(text)
		if got == "" {
			return
		}
		if _, err := time.Parse(time.RFC3339, got); err != nil {
			t.Errorf("%q became %q: %v", text, got, err)
		}
		if stamp(got) != got {
			t.Errorf("%q is not stable: %q", got, stamp(got))
		}
	})
}
