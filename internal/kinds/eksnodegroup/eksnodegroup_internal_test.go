package eksnodegroup

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

const template = "lt-0123456789abcdef0"

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func nodegroup(change func(*types.Nodegroup)) *inventory.Resource {
	g := &types.Nodegroup{
		ClusterName: aws.String("prod"), NodegroupName: aws.String("web"), Status: types.NodegroupStatusActive,
		Version: aws.String("1.32"), ReleaseVersion: aws.String("1.32.3-20250301"), AmiType: types.AMITypesAl2023X8664Standard,
		InstanceTypes: []string{"m5.large"}, ScalingConfig: &types.NodegroupScalingConfig{DesiredSize: aws.Int32(3)},
		LaunchTemplate: &types.LaunchTemplateSpecification{
			Id: aws.String(template), Name: aws.String("web"), Version: aws.String("7"),
		},
		Resources: &types.NodegroupResources{AutoScalingGroups: []types.AutoScalingGroup{{Name: aws.String("eks-web-1")}}},
	}
	change(g)
	d := &driver{place: place}
	r := d.resource("prod/web", g)
	return &r
}

func TestResource(t *testing.T) {
	r := nodegroup(func(*types.Nodegroup) {})
	want := fleet.State{
		FieldTemplate: template, FieldTemplateVersion: "7", FieldVersion: "1.32", FieldReleaseVersion: "1.32.3-20250301",
	}
	if !r.State.Equal(want) || r.Settling {
		t.Errorf("state %v, settling %t", r.State, r.Settling)
	}
	operated, _ := r.Link(inventory.Operates)
	launched, _ := r.Link(inventory.LaunchesFrom)
	if operated.To != r.Ref.Sibling(inventory.KindAutoScaling, "eks-web-1") ||
		launched.To != r.Ref.Sibling(inventory.KindLaunchTemplate, template) || launched.Selector != "7" ||
		launched.Field != FieldTemplateVersion || !launched.Starts {
		t.Errorf("links %+v", r.Links)
	}
	if r.Attrs[inventory.AttrCluster] != "prod" || r.Attrs[inventory.AttrContainers] != "eks" ||
		r.Attrs[inventory.AttrDesired] != "3" {
		t.Errorf("attributes %v", r.Attrs)
	}
	for status, want := range map[types.NodegroupStatus][2]bool{ // settling, writable
		types.NodegroupStatusUpdating: {true, true}, types.NodegroupStatusCreating: {true, true},
		types.NodegroupStatusDegraded: {false, true}, types.NodegroupStatusDeleting: {true, false},
		types.NodegroupStatusCreateFailed: {false, false}, types.NodegroupStatusDeleteFailed: {false, false},
	} {
		r := nodegroup(func(g *types.Nodegroup) { g.Status = status })
		l, _ := r.Link(inventory.LaunchesFrom)
		if got := [2]bool{r.Settling, l.Field != ""}; got != want {
			t.Errorf("%s: settling and writable are %v", status, got)
		}
	}
	own := nodegroup(func(g *types.Nodegroup) { g.LaunchTemplate = nil })
	if _, ok := own.Link(inventory.LaunchesFrom); ok || own.State[FieldTemplate] != "" || own.State[FieldTemplateVersion] != "" {
		t.Errorf("without a template: %v, %+v", own.State, own.Links)
	}
}

func TestProposeTellsTheWayOutOfEKSsOwnTemplate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*types.Nodegroup)
		status assess.Status
		want   int
	}{
		{"of its own template", func(g *types.Nodegroup) { g.LaunchTemplate = nil }, assess.Ready, 1},
		{"blocked", func(g *types.Nodegroup) { g.LaunchTemplate = nil }, assess.Blocked, 1},
		{"done", func(g *types.Nodegroup) { g.LaunchTemplate = nil }, assess.Done, 0},
		{"exempt", func(g *types.Nodegroup) { g.LaunchTemplate = nil }, assess.Exempt, 0},
		{"of a person's", func(*types.Nodegroup) {}, assess.Ready, 0},
	} {
		needs, manuals := propose(kind.Case{
			Resource: nodegroup(tt.change), Verdict: &assess.Verdict{Status: tt.status, Want: fleet.Options{HopLimit: 3}},
		})
		if len(needs) != 0 || len(manuals) != tt.want {
			t.Errorf("%s: %v and %v", tt.name, needs, manuals)
			continue
		}
		if tt.want == 0 {
			continue
		}
		all := strings.Join(manuals[0].Commands, "\n")
		for _, part := range []string{
			"create-launch-template --region eu-west-1 --launch-template-name prod-web-imdsv2",
			`"HttpTokens":"required","HttpPutResponseHopLimit":3`,
			`eks create-nodegroup --region eu-west-1 --cli-input-json "$(aws eks describe-nodegroup`,
			`nodegroupName:"web-imdsv2"`, "nodegroup-active --cluster-name prod --nodegroup-name web-imdsv2",
			"delete-nodegroup --region eu-west-1 --cluster-name prod --nodegroup-name web",
		} {
			if !strings.Contains(all, part) {
				t.Errorf("%s: no %q in\n%s", tt.name, part, all)
			}
		}
	}
}

func TestANewNodegroupsNameIsNotTooLong(t *testing.T) {
	for _, line := range successor(place, "prod", strings.Repeat("n", 63), 2) {
		for word := range strings.FieldsSeq(line) {
			if strings.HasPrefix(word, "nnn") && len(word) > 63 {
				t.Errorf("the name has %d characters: %s", len(word), word)
			}
		}
	}
}

func TestCommands(t *testing.T) {
	state := fleet.State{
		FieldTemplate: template, FieldTemplateVersion: "7", FieldVersion: "1.32", FieldReleaseVersion: "1.32.3-20250301",
	}
	image := state.With(fleet.State{FieldReleaseVersion: "ami-0123456789abcdef0"})
	version := func(v string) fleet.State { return fleet.State{FieldTemplateVersion: v} }
	for _, tt := range []struct {
		name, id      string
		before, patch fleet.State
		want          string // of the first command; empty for none
	}{
		{"pinned", "prod/web", state, version("8"), "aws eks update-nodegroup-version --region eu-west-1 --cluster-name prod " +
			"--nodegroup-name web --launch-template id=" + template + ",version=8 --kubernetes-version 1.32 " +
			"--release-version 1.32.3-20250301"},
		{"a custom image", "prod/web", image, version("8"), "aws eks update-nodegroup-version --region eu-west-1 --cluster-name " +
			"prod --nodegroup-name web --launch-template id=" + template + ",version=8"},
		{"an output of the plan", "prod/web", image, version("${c-0123456789ab.Version}"), "aws eks update-nodegroup-version " +
			"--region eu-west-1 --cluster-name prod --nodegroup-name web --launch-template " +
			"'id=" + template + ",version=${c-0123456789ab.Version}'"},
		{"no number", "prod/web", state, version("$Latest"), ""},
		{"no version", "prod/web", state, version("8; reboot"), ""},
		{"another template", "prod/web", state, fleet.State{FieldTemplate: "lt-01234567"}, ""},
		{"a newer image", "prod/web", state, fleet.State{FieldTemplateVersion: "8", FieldReleaseVersion: "1.32.9"}, ""},
		{"no release", "prod/web", state.With(fleet.State{FieldReleaseVersion: "$(x)"}), version("8"), ""},
		{"no id", "prod", state, version("8"), ""},
		{"nothing", "prod/web", state, nil, ""},
	} {
		got := commands(kind.Write{
			Place: place, ID: tt.id, Verb: VerbSetLaunchVersion, Before: tt.before, After: tt.before.With(tt.patch),
		})
		if tt.want == "" {
			if len(got) != 0 {
				t.Errorf("%s: got %q", tt.name, got)
			}
			continue
		}
		wait := "aws eks wait --region eu-west-1 nodegroup-active --cluster-name prod --nodegroup-name web"
		if !slices.Equal(got, []string{tt.want, wait}) {
			t.Errorf("%s: got %q", tt.name, got)
		}
	}
}

// FuzzSplit: an id that is taken apart is put together again, and nothing of AWS's gets into a command unquoted.
func FuzzSplit(f *testing.F) {
	f.Add("prod/web", "1.32", "1.32.3-20250301", "8")
	f.Add("a/b/c", "", "ami-01234567", "$(x)")
	f.Fuzz(func(t *testing.T, id, version, release, number string) {
		cluster, name, ok := split(id)
		if ok && cluster+"/"+name != id {
			t.Errorf("%q became %q and %q", id, cluster, name)
		}
		before := fleet.State{
			FieldTemplate: template, FieldTemplateVersion: "1", FieldVersion: version, FieldReleaseVersion: release,
		}
		w := kind.Write{Place: place, ID: id, Verb: VerbSetLaunchVersion, Before: before,
			After: before.With(fleet.State{FieldTemplateVersion: number})}
		for _, line := range commands(w) {
			if !ok || strings.Contains(line, "$(") && !strings.Contains(line, "'") {
				t.Errorf("%q gives %s", id, line)
			}
		}
	})
}
