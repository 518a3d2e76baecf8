package kind_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func TestFolder(t *testing.T) {
	k := kind.Kind{Name: "auto-scaling-group"}
	if got := k.Folder(); got != "autoscalinggroup" {
		t.Errorf("got %q", got)
	}
}

func TestCommand(t *testing.T) {
	got := kind.Command(place, "ec2", "modify-launch-template", "--default-version", "$Latest; rm -rf 'x'")
	want := `aws ec2 modify-launch-template --region eu-west-1 --default-version '$Latest; rm -rf '\''x'\'''`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPageSize(t *testing.T) {
	for _, tt := range []struct{ asked, most, want int32 }{{5, 1000, 5}, {0, 1000, 1000}, {500, 100, 100}} {
		if got := kind.PageSize(kind.WithPageSize(t.Context(), tt.asked), tt.most); got != tt.want {
			t.Errorf("asked for %d of %d: got %d, want %d", tt.asked, tt.most, got, tt.want)
		}
	}
	if got := kind.PageSize(t.Context(), 7); got != 7 {
		t.Errorf("without a wish: got %d", got)
	}
}

// FuzzQuote compares with a real shell.
func FuzzQuote(f *testing.F) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		f.Skip("there is no sh on this machine")
	}
	for _, s := range []string{
		"", "plain", "a b", "it's", "$(reboot)", "`reboot`", "a\nb", "-n", "~", "x=y", "=ls", "*", "\\", "a'\"'b", "ü",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		word := kind.Quote(s)
		out, err := exec.CommandContext(t.Context(), shell, "-c", "printf %s "+word+"X").Output()
		if err != nil {
			t.Fatalf("%q quoted as %s: %v", s, word, err)
		}
		if got, want := string(out), strings.ReplaceAll(s, "\x00", "")+"X"; got != want {
			t.Errorf("%q quoted as %s comes out as %q", s, word, got)
		}
	})
}

func TestOwnerByTags(t *testing.T) {
	tests := []struct {
		tags map[string]string
		want fleet.Owner
	}{
		{nil, fleet.Owner{}},
		{map[string]string{"Name": "web"}, fleet.Owner{}},
		{
			map[string]string{"aws:cloudformation:stack-name": "shop"},
			fleet.Owner{Type: fleet.OwnerCloudFormation, Name: "shop"},
		},
		{
			map[string]string{"aws:cloudformation:stack-name": "shop", kind.TagGroup: "web"},
			fleet.Owner{Type: fleet.OwnerAutoScaling, Name: "web"},
		},
		{
			map[string]string{"elasticbeanstalk:environment-name": "prod", kind.TagGroup: "awseb-1"},
			fleet.Owner{Type: fleet.OwnerBeanstalk, Name: "prod", Managed: true},
		},
		{
			map[string]string{"eks:nodegroup-name": "ng", kind.TagGroup: "eks-ng"},
			fleet.Owner{Type: fleet.OwnerEKS, Name: "ng", Managed: true},
		},
		{map[string]string{"karpenter.sh/nodepool": "default"}, fleet.Owner{Type: fleet.OwnerKarpenter, Name: "default", Managed: true}},
		{map[string]string{"AWSBatchServiceTag": "batch"}, fleet.Owner{Type: fleet.OwnerBatch, Managed: true}},
		{map[string]string{"AWSBatchServiceTag": "other"}, fleet.Owner{}},
		{map[string]string{"ManagedBy": "Terraform"}, fleet.Owner{Type: fleet.OwnerTerraform}},
		{map[string]string{"ManagedBy": "hand"}, fleet.Owner{}},
	}
	for _, tt := range tests {
		if got := kind.OwnerByTags(tt.tags); got != tt.want {
			t.Errorf("%v: got %+v, want %+v", tt.tags, got, tt.want)
		}
	}
}

func TestDryRunErrorTellsTheWayOutOfADenial(t *testing.T) {
	for class, out := range map[fleet.ErrorClass]bool{fleet.ErrDenied: true, fleet.ErrTransient: false} {
		err := kind.DryRunError(kind.Errorf(class, place, "ec2:X", "no"), "set back %s", "i-1")
		if fleet.ClassOf(err) != class || !strings.HasPrefix(err.Error(), "set back i-1 (dry run): ec2:X in ") {
			t.Errorf("%s: got %v", class, err)
		}
		if got := strings.Contains(err.Error(), "allow it to the role that writes"); got != out {
			t.Errorf("%s: got %v", class, err)
		}
	}
}
