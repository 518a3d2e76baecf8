package eks_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	sdk "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

const (
	account  = "111122223333"
	template = "lt-0123456789abcdef0"
	golden   = "lt-0123456789abcdef1"
)

// seed has node groups of each sort: with a person's template, with one that names an image, of EKS's own, and one whose group
// Auto Scaling has already.
const seed = `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {
	"ec2": {
		"images": [{"id": "ami-0123456789abcdef0"}, {"id": "ami-0123456789abcdef1"}, {"id": "ami-0123456789abcdef2"}],
		"instances": [{"id": "i-0123456789abcdef0", "image": "ami-0123456789abcdef0"}],
		"templates": [
			{"id": "lt-0123456789abcdef0", "name": "web", "versions": [
				{"data": {"MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2}}},
				{"data": {"MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}}}]},
			{"id": "lt-0123456789abcdef1", "name": "golden", "versions": [
				{"data": {"ImageId": "ami-0123456789abcdef1"}},
				{"data": {"ImageId": "ami-0123456789abcdef1", "MetadataOptions": {"HttpTokens": "required"}}},
				{"data": {"ImageId": "ami-0123456789abcdef2"}}]}]},
	"autoscaling": {"groups": [{"name": "eks-batch", "template": "lt-0123456789abcdef0", "version": "1",
		"instances": ["i-0123456789abcdef0"], "min": 1, "max": 3}]},
	"eks": {
		"releases": [
			{"version": "1.32", "release": "1.32.3-20250301", "image": "ami-0123456789abcdef0"},
			{"version": "1.32", "release": "1.32.10-20250901", "image": "ami-0123456789abcdef2"}],
		"clusters": [
			{"name": "prod", "version": "1.33", "tags": {"team": "core"}, "nodegroups": [
				{"name": "web", "template": "web", "version": "1.32", "release_version": "1.32.3-20250301", "desired": 3,
					"image": "ami-0123456789abcdef0", "instance_types": ["m5.large"], "tags": {"app": "web"}},
				{"name": "golden", "template": "lt-0123456789abcdef1", "version": "1.32", "desired": 1},
				{"name": "plain", "version": "1.32", "release_version": "1.32.3-20250301", "desired": 2,
					"image": "ami-0123456789abcdef0"},
				{"name": "batch", "template": "web", "version": "1.32", "release_version": "1.32.3-20250301", "group": "eks-batch"},
				{"name": "sticky", "template": "web", "evicts": "a disruption budget allows none"},
				{"name": "elsewhere", "template": "lt-0fedcba9876543210", "template_version": 4}]},
			{"name": "test"}]}}}}]}`

type world struct {
	*core.World
	clock *clock.Manual
	place *core.Place
	eks   *sdk.Client
	ec2   *sdkec2.Client
}

func enter(t *testing.T, o core.Options) world {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	o.Clock = c
	w := awssim.New(o)
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	p, err := w.Place(account, "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	cfg := aws.Config{
		Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", ""),
	}
	c.Advance(time.Minute)
	return world{w, c, p, sdk.NewFromConfig(cfg), sdkec2.NewFromConfig(cfg)}
}

func (w world) group(t *testing.T, name string) *types.Nodegroup {
	t.Helper()
	out, err := w.eks.DescribeNodegroup(t.Context(),
		&sdk.DescribeNodegroupInput{ClusterName: aws.String("prod"), NodegroupName: aws.String(name)})
	if err != nil {
		t.Fatal(err)
	}
	return out.Nodegroup
}

// nodes are the running nodes of a node group, with their tokens and images.
func (w world) nodes(t *testing.T, group string) (ids []string, tokens, images map[string]int) {
	t.Helper()
	w.place.View(func(time.Time) { ids = autoscaling.StoreOf(w.place).Members(group) })
	tokens, images = map[string]int{}, map[string]int{}
	out, err := w.ec2.DescribeInstances(t.Context(), &sdkec2.DescribeInstancesInput{InstanceIds: ids})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			tokens[string(i.MetadataOptions.HttpTokens)]++
			images[aws.ToString(i.ImageId)]++
		}
	}
	return ids, tokens, images
}

func update(name string, change func(*sdk.UpdateNodegroupVersionInput)) *sdk.UpdateNodegroupVersionInput {
	in := &sdk.UpdateNodegroupVersionInput{ClusterName: aws.String("prod"), NodegroupName: aws.String(name)}
	if change != nil {
		change(in)
	}
	return in
}

// pinned is an update to another version of the template and nothing else.
func pinned(name, version string) *sdk.UpdateNodegroupVersionInput {
	return update(name, func(in *sdk.UpdateNodegroupVersionInput) {
		in.LaunchTemplate = &types.LaunchTemplateSpecification{Id: aws.String(template), Version: aws.String(version)}
		in.Version, in.ReleaseVersion = aws.String("1.32"), aws.String("1.32.3-20250301")
		in.ClientRequestToken = aws.String("token-1")
	})
}

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestNodegroupsAreDescribed(t *testing.T) {
	w := enter(t, core.Options{})
	g := w.group(t, "web")
	if g.Status != types.NodegroupStatusActive || aws.ToString(g.LaunchTemplate.Id) != template ||
		aws.ToString(g.LaunchTemplate.Version) != "1" || aws.ToString(g.LaunchTemplate.Name) != "web" ||
		aws.ToString(g.Version) != "1.32" || aws.ToString(g.ReleaseVersion) != "1.32.3-20250301" ||
		aws.ToString(g.Resources.AutoScalingGroups[0].Name) != "eks-web" || g.Tags["app"] != "web" ||
		aws.ToInt32(g.ScalingConfig.DesiredSize) != 3 || g.AmiType != types.AMITypesAl2023X8664Standard {
		t.Errorf("web: %+v", g)
	}
	if g := w.group(t, "golden"); g.AmiType != types.AMITypesCustom || aws.ToString(g.ReleaseVersion) != "ami-0123456789abcdef1" {
		t.Errorf("golden: %s %s", g.AmiType, aws.ToString(g.ReleaseVersion))
	}
	if g := w.group(t, "plain"); g.LaunchTemplate != nil {
		t.Errorf("plain has template %+v", g.LaunchTemplate)
	}
	if g := w.group(t, "elsewhere"); aws.ToString(g.LaunchTemplate.Version) != "4" {
		t.Errorf("elsewhere: %+v", g.LaunchTemplate)
	}
	ids, tokens, _ := w.nodes(t, "eks-web")
	if len(ids) != 3 || tokens["optional"] != 3 {
		t.Errorf("nodes %v %v", ids, tokens)
	}
	out, err := w.eks.DescribeCluster(t.Context(), &sdk.DescribeClusterInput{Name: aws.String("prod")})
	if err != nil || aws.ToString(out.Cluster.Version) != "1.33" || out.Cluster.Tags["team"] != "core" {
		t.Errorf("%+v %v", out, err)
	}
}

func TestListsArePaged(t *testing.T) {
	w := enter(t, core.Options{})
	var names []string
	pages := sdk.NewListNodegroupsPaginator(w.eks, &sdk.ListNodegroupsInput{ClusterName: aws.String("prod"), MaxResults: aws.Int32(4)})
	n := 0
	for ; pages.HasMorePages(); n++ {
		out, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, out.Nodegroups...)
	}
	if n != 2 || !slices.Equal(names, []string{"batch", "elsewhere", "golden", "plain", "sticky", "web"}) {
		t.Errorf("%q on %d pages", names, n)
	}
	first, err := w.eks.ListClusters(t.Context(), &sdk.ListClustersInput{MaxResults: aws.Int32(1), Include: []string{"all"}})
	if err != nil || !slices.Equal(first.Clusters, []string{"prod"}) || first.NextToken == nil {
		t.Fatalf("%+v %v", first, err)
	}
	second, err := w.eks.ListClusters(t.Context(), &sdk.ListClustersInput{NextToken: first.NextToken})
	if err != nil || !slices.Equal(second.Clusters, []string{"test"}) || second.NextToken != nil {
		t.Errorf("%+v %v", second, err)
	}
	for _, in := range []*sdk.ListClustersInput{
		{MaxResults: aws.Int32(101)}, {NextToken: aws.String("x")}, {Include: []string{"some"}},
	} {
		if _, err := w.eks.ListClusters(t.Context(), in); code(err) != "InvalidParameterException" {
			t.Errorf("%+v: %v", in, err)
		}
	}
}

func TestAnUpdateReplacesTheNodes(t *testing.T) {
	for _, group := range []string{"web", "batch"} {
		w := enter(t, core.Options{})
		before, _, _ := w.nodes(t, "eks-"+group)
		out, err := w.eks.UpdateNodegroupVersion(t.Context(), pinned(group, "2"))
		if err != nil {
			t.Fatal(err)
		}
		if out.Update.Status != types.UpdateStatusInProgress || out.Update.Type != types.UpdateTypeVersionUpdate {
			t.Errorf("%s: %+v", group, out.Update)
		}
		if g := w.group(t, group); g.Status != types.NodegroupStatusActive {
			t.Errorf("%s: seen as %s at once", group, g.Status)
		}
		w.clock.Advance(5 * time.Second)
		if g := w.group(t, group); g.Status != types.NodegroupStatusUpdating || aws.ToString(g.LaunchTemplate.Version) != "1" {
			t.Errorf("%s: under way as %s, version %s", group, g.Status, aws.ToString(g.LaunchTemplate.Version))
		}
		w.clock.Advance(10 * time.Minute)
		if g := w.group(t, group); g.Status != types.NodegroupStatusActive || aws.ToString(g.LaunchTemplate.Version) != "2" ||
			aws.ToString(g.ReleaseVersion) != "1.32.3-20250301" {
			t.Errorf("%s: ended as %s, version %s", group, g.Status, aws.ToString(g.LaunchTemplate.Version))
		}
		after, tokens, images := w.nodes(t, "eks-"+group)
		if len(after) != len(before) || tokens["required"] != len(before) || images["ami-0123456789abcdef0"] != len(before) {
			t.Errorf("%s: nodes %v %v %v", group, after, tokens, images)
		}
		for _, id := range before {
			if slices.Contains(after, id) {
				t.Errorf("%s: %s was not replaced", group, id)
			}
		}
		done, err := w.eks.DescribeUpdate(t.Context(), &sdk.DescribeUpdateInput{
			Name: aws.String("prod"), NodegroupName: aws.String(group), UpdateId: out.Update.Id,
		})
		if err != nil || done.Update.Status != types.UpdateStatusSuccessful {
			t.Errorf("%s: %+v %v", group, done, err)
		}
		// The person's template has no new version, and the group launches from a copy that is EKS's own.
		var src autoscaling.Source
		w.place.View(func(time.Time) { src, _ = autoscaling.StoreOf(w.place).SourceOf("eks-" + group) })
		if src.Template.ID == template || !strings.HasPrefix(src.Template.Name, "eks-") {
			t.Errorf("%s launches from %+v", group, src.Template)
		}
	}
}

func TestATokenStartsOneUpdate(t *testing.T) {
	w := enter(t, core.Options{})
	first, err := w.eks.UpdateNodegroupVersion(t.Context(), pinned("web", "2"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []time.Duration{0, time.Minute, time.Hour} {
		w.clock.Advance(d)
		again, err := w.eks.UpdateNodegroupVersion(t.Context(), pinned("web", "2"))
		if err != nil || aws.ToString(again.Update.Id) != aws.ToString(first.Update.Id) {
			t.Errorf("after %s: %+v %v", d, again, err)
		}
	}
	if _, err := w.eks.UpdateNodegroupVersion(t.Context(), pinned("web", "1")); code(err) != "InvalidParameterException" {
		t.Errorf("the token for something else: %v", err)
	}
	list, err := w.eks.ListUpdates(t.Context(), &sdk.ListUpdatesInput{Name: aws.String("prod"), NodegroupName: aws.String("web")})
	if err != nil || !slices.Equal(list.UpdateIds, []string{aws.ToString(first.Update.Id)}) {
		t.Errorf("%+v %v", list, err)
	}
	mutated := 0
	for _, c := range w.Calls() {
		if c.Mutated {
			mutated++
		}
	}
	if mutated != 1 {
		t.Errorf("%d calls changed something", mutated)
	}
	other := pinned("web", "1")
	other.ClientRequestToken = aws.String("token-2")
	if _, err := w.eks.UpdateNodegroupVersion(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	other.ClientRequestToken = aws.String("token-3")
	if _, err := w.eks.UpdateNodegroupVersion(t.Context(), other); code(err) != "ResourceInUseException" {
		t.Errorf("a second update at once: %v", err)
	}
}

// TestWhatIsNotPinnedMoves: without version and release an update goes to the cluster's version and its newest image, and never
// back.
func TestWhatIsNotPinnedMoves(t *testing.T) {
	w := enter(t, core.Options{})
	moved := func(name string, in *sdk.UpdateNodegroupVersionInput, version, release string) {
		t.Helper()
		if _, err := w.eks.UpdateNodegroupVersion(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		w.clock.Advance(time.Hour)
		if g := w.group(t, name); aws.ToString(g.Version) != version || aws.ToString(g.ReleaseVersion) != release {
			t.Errorf("%s moved to %s, %s", name, aws.ToString(g.Version), aws.ToString(g.ReleaseVersion))
		}
	}
	moved("plain", update("plain", func(in *sdk.UpdateNodegroupVersionInput) { in.Version = aws.String("1.32") }),
		"1.32", "1.32.10-20250901")
	if _, _, images := w.nodes(t, "eks-plain"); images["ami-0123456789abcdef2"] != 2 {
		t.Errorf("images %v", images)
	}
	moved("plain", update("plain", nil), "1.33", "1.33.0-20260101")
	moved("web", update("web", func(in *sdk.UpdateNodegroupVersionInput) {
		in.LaunchTemplate = &types.LaunchTemplateSpecification{Name: aws.String("web"), Version: aws.String("2")}
	}), "1.33", "1.33.0-20260101")
	for name, change := range map[string]func(*sdk.UpdateNodegroupVersionInput){
		"older Kubernetes":       func(in *sdk.UpdateNodegroupVersionInput) { in.Version = aws.String("1.32") },
		"newer than the cluster": func(in *sdk.UpdateNodegroupVersionInput) { in.Version = aws.String("1.34") },
		"unknown release":        func(in *sdk.UpdateNodegroupVersionInput) { in.ReleaseVersion = aws.String("1.33.9-20260801") },
		"an older version's release": func(in *sdk.UpdateNodegroupVersionInput) {
			in.Version, in.ReleaseVersion = aws.String("1.33"), aws.String("1.32.10-20250901")
		},
	} {
		if _, err := w.eks.UpdateNodegroupVersion(t.Context(), update("web", change)); code(err) != "InvalidParameterException" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTemplatesOfUpdates(t *testing.T) {
	w := enter(t, core.Options{})
	spec := func(id, name, version string) *types.LaunchTemplateSpecification {
		s := &types.LaunchTemplateSpecification{}
		for field, text := range map[**string]string{&s.Id: id, &s.Name: name, &s.Version: version} {
			if text != "" {
				*field = aws.String(text)
			}
		}
		return s
	}
	for name, in := range map[string]*sdk.UpdateNodegroupVersionInput{
		"id and name":        update("web", func(in *sdk.UpdateNodegroupVersionInput) { in.LaunchTemplate = spec(template, "web", "2") }),
		"neither":            update("web", func(in *sdk.UpdateNodegroupVersionInput) { in.LaunchTemplate = spec("", "", "2") }),
		"another template":   update("web", func(in *sdk.UpdateNodegroupVersionInput) { in.LaunchTemplate = spec(golden, "", "2") }),
		"no such version":    update("web", func(in *sdk.UpdateNodegroupVersionInput) { in.LaunchTemplate = spec(template, "", "9") }),
		"no custom template": update("plain", func(in *sdk.UpdateNodegroupVersionInput) { in.LaunchTemplate = spec(template, "", "2") }),
		"custom image and version": update("golden", func(in *sdk.UpdateNodegroupVersionInput) {
			in.LaunchTemplate, in.Version = spec(golden, "", "2"), aws.String("1.32")
		}),
		"custom image and release": update("golden", func(in *sdk.UpdateNodegroupVersionInput) {
			in.LaunchTemplate, in.ReleaseVersion = spec(golden, "", "2"), aws.String("ami-0123456789abcdef1")
		}),
	} {
		if _, err := w.eks.UpdateNodegroupVersion(t.Context(), in); code(err) != "InvalidParameterException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for version, image := range map[string]string{"2": "ami-0123456789abcdef1", "3": "ami-0123456789abcdef2"} {
		_, err := w.eks.UpdateNodegroupVersion(t.Context(),
			update("golden", func(in *sdk.UpdateNodegroupVersionInput) { in.LaunchTemplate = spec(golden, "", version) }))
		if err != nil {
			t.Fatal(err)
		}
		w.clock.Advance(time.Hour)
		if g := w.group(t, "golden"); aws.ToString(g.ReleaseVersion) != image || aws.ToString(g.Version) != "1.32" {
			t.Errorf("version %s: %s %s", version, aws.ToString(g.Version), aws.ToString(g.ReleaseVersion))
		}
		if _, _, images := w.nodes(t, "eks-golden"); images[image] != 1 {
			t.Errorf("version %s: images %v", version, images)
		}
	}
}

func TestAnUpdateThatFailsLeavesEverything(t *testing.T) {
	w := enter(t, core.Options{})
	out, err := w.eks.UpdateNodegroupVersion(t.Context(), update("sticky", nil))
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour)
	done, err := w.eks.DescribeUpdate(t.Context(), &sdk.DescribeUpdateInput{
		Name: aws.String("prod"), NodegroupName: aws.String("sticky"), UpdateId: out.Update.Id,
	})
	if err != nil || done.Update.Status != types.UpdateStatusFailed ||
		done.Update.Errors[0].ErrorCode != types.ErrorCodePodEvictionFailure {
		t.Errorf("%+v %v", done.Update, err)
	}
	if g := w.group(t, "sticky"); g.Status != types.NodegroupStatusActive || aws.ToString(g.LaunchTemplate.Version) != "1" {
		t.Errorf("%s, version %s", g.Status, aws.ToString(g.LaunchTemplate.Version))
	}
	forced := update("sticky", func(in *sdk.UpdateNodegroupVersionInput) {
		in.Force, in.LaunchTemplate = true, &types.LaunchTemplateSpecification{Name: aws.String("web"), Version: aws.String("$Latest")}
	})
	if _, err := w.eks.UpdateNodegroupVersion(t.Context(), forced); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour)
	if g := w.group(t, "sticky"); aws.ToString(g.LaunchTemplate.Version) != "2" {
		t.Errorf("forced: version %s", aws.ToString(g.LaunchTemplate.Version))
	}

	// A launch that EC2 refuses ends the update too, and the group launches as before.
	enforce(t, w)
	back := pinned("web", "1")
	back.Version, back.ReleaseVersion = nil, nil
	if out, err = w.eks.UpdateNodegroupVersion(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour)
	done, err = w.eks.DescribeUpdate(t.Context(), &sdk.DescribeUpdateInput{
		Name: aws.String("prod"), NodegroupName: aws.String("web"), UpdateId: out.Update.Id,
	})
	if err != nil || done.Update.Status != types.UpdateStatusFailed ||
		done.Update.Errors[0].ErrorCode != types.ErrorCodeNodeCreationFailure {
		t.Errorf("%+v %v", done.Update, err)
	}
	if ids, _, _ := w.nodes(t, "eks-web"); len(ids) != 3 {
		t.Errorf("nodes %v", ids)
	}
}

func enforce(t *testing.T, w world) {
	t.Helper()
	_, err := w.ec2.ModifyInstanceMetadataDefaults(t.Context(), &sdkec2.ModifyInstanceMetadataDefaultsInput{
		HttpTokens: "required", HttpTokensEnforced: "enabled",
	})
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
}

func TestWhatIsNotThere(t *testing.T) {
	w := enter(t, core.Options{})
	ctx, prod, none := t.Context(), aws.String("prod"), aws.String("none")
	for name, call := range map[string]func() error{
		"cluster": func() error { _, err := w.eks.DescribeCluster(ctx, &sdk.DescribeClusterInput{Name: none}); return err },
		"cluster of a list": func() error {
			_, err := w.eks.ListNodegroups(ctx, &sdk.ListNodegroupsInput{ClusterName: none})
			return err
		},
		"cluster of updates": func() error { _, err := w.eks.ListUpdates(ctx, &sdk.ListUpdatesInput{Name: none}); return err },
		"node group of updates": func() error {
			_, err := w.eks.ListUpdates(ctx, &sdk.ListUpdatesInput{Name: prod, NodegroupName: none})
			return err
		},
		"node group": func() error {
			_, err := w.eks.DescribeNodegroup(ctx, &sdk.DescribeNodegroupInput{ClusterName: prod, NodegroupName: none})
			return err
		},
		"update": func() error {
			_, err := w.eks.DescribeUpdate(ctx, &sdk.DescribeUpdateInput{Name: prod, UpdateId: none})
			return err
		},
		"node group to update": func() error {
			_, err := w.eks.UpdateNodegroupVersion(ctx, &sdk.UpdateNodegroupVersionInput{ClusterName: prod, NodegroupName: none})
			return err
		},
	} {
		if err := call(); code(err) != "ResourceNotFoundException" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnUpdateNeedsItsPermissions(t *testing.T) {
	w := enter(t, core.Options{})
	as := func(actions ...string) *sdk.Client {
		t.Helper()
		if err := w.PutRole(account, "r", core.TrustAccount(account, ""), core.AllowActions(actions...)); err != nil {
			t.Fatal(err)
		}
		role, _ := w.Role(account, "r")
		creds, _, err := w.MintSession(role, "s", time.Hour, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		return sdk.New(sdk.Options{
			Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider(creds.AccessKeyID, creds.SecretAccessKey, creds.SessionToken),
		})
	}
	for _, tc := range []struct {
		may  []string
		want string
	}{
		{[]string{"eks:DescribeNodegroup"}, "AccessDeniedException"},
		{[]string{"eks:UpdateNodegroupVersion"}, "AccessDeniedException"},
		{[]string{"eks:UpdateNodegroupVersion", "ec2:RunInstances"}, "<nil>"},
	} {
		_, err := as(tc.may...).UpdateNodegroupVersion(t.Context(), pinned("web", "2"))
		if code(err) != tc.want {
			t.Errorf("%q: %v", tc.may, err)
		}
	}
}

func TestSeedsThatCannotBe(t *testing.T) {
	for section, want := range map[string]string{
		`{"clusters": [{"name": "a/b"}]}`:                                                    "clusters[0]: \"a/b\" is not a cluster's name",
		`{"clusters": [{"name": "a"}, {"name": "a"}]}`:                                       "clusters[1]",
		`{"clusters": [{"name": "a", "nodegroups": [{"name": ""}]}]}`:                        "nodegroups[0]",
		`{"clusters": [{"name": "a", "nodegroups": [{"name": "n", "status": "SLEEPING"}]}]}`: "SLEEPING",
		`{"clusters": [{"name": "a", "nodegroups": [{"name": "n", "template": "none"}]}]}`:   "not in the ec2 section",
		`{"clusters": [{"name": "a", "nodegroups": [{"name": "n", "desired": 1}]}]}`:         "",
		`{"clusters": [{"name": "a", "nodegroup": []}]}`:                                     "unknown key",
	} {
		w := awssim.New(core.Options{Clock: clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))})
		err := w.Load([]byte(`{"accounts": [{"id": "` + account + `", "regions": {"` + string(fleet.Region("eu-west-1")) +
			`": {"eks": ` + section + `}}}]}`))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", section, err)
		}
	}
}
