package kindtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/plan"
)

const sharedTemplate = "lt-0123456789abcdef0"

// shared is one template, default 3 and latest 5, that four groups launch from. Each version has an image of its own.
const shared = `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {
  "ec2": {
    "images": [{"id": "ami-00000001"}, {"id": "ami-00000002"}, {"id": "ami-00000003"}, {"id": "ami-00000004"},
      {"id": "ami-00000005"}],
    "templates": [{"id": "lt-0123456789abcdef0", "name": "shop", "default": 3, "versions": [
      {"data": {"ImageId": "ami-00000001", "InstanceType": "m5.large"}},
      {"data": {"ImageId": "ami-00000002", "InstanceType": "m5.large"}},
      {"data": {"ImageId": "ami-00000003", "InstanceType": "m5.large",
        "MetadataOptions": {
          "HttpTokens": "optional", "HttpPutResponseHopLimit": 2, "InstanceMetadataTags": "enabled"}}},
      {"data": {"ImageId": "ami-00000004", "InstanceType": "m5.large"}},
      {"data": {"ImageId": "ami-00000005", "InstanceType": "m5.large"}}]}]
  },
  "autoscaling": {"groups": [
    {"name": "blue", "template": "lt-0123456789abcdef0"},
    {"name": "green", "template": "lt-0123456789abcdef0", "version": "$Default"},
    {"name": "canary", "template": "lt-0123456789abcdef0", "version": "$Latest"},
    {"name": "frozen", "template": "lt-0123456789abcdef0", "version": "3"}]}
}}}]}`

// carried is a need that was carried out, with what undoes it.
type carried struct {
	driver kind.Driver
	verb   kind.Verb
	back   kind.Write
}

// TestSharedTemplate carries out, on the simulator, what the template's kind proposes for four groups that share it,
// and takes it back. No group may launch from another image at any moment.
func TestSharedTemplate(t *testing.T) {
	e, _ := all.Find(inventory.KindLaunchTemplate)
	b := &bench{entry: e, fixture: &fixture{
		Seed: json.RawMessage(shared), Place: fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"},
		Launches: []launch{{Group: "blue"}, {Group: "green"}, {Group: "canary"}, {Group: "frozen"}},
	}}
	s := b.site(reality{t})
	before := s.launches(reality{t})
	drivers := map[string]kind.Driver{}
	snapshot := inventory.Snapshot{Place: b.fixture.Place}
	kinds := map[string]kind.Kind{}
	for _, e := range all.List() {
		if e.Kind.Lives != kind.Region {
			continue
		}
		d := e.Open(s.config(reality{t}, awsx.Role{}), b.fixture.Place, s.clock)
		drivers[e.Kind.Name], kinds[e.Kind.Name] = d, e.Kind
		if err := d.List(t.Context(), func(r inventory.Resource) error {
			snapshot.Resources = append(snapshot.Resources, r)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	judge := func(r fleet.Ref) *assess.Verdict {
		return &assess.Verdict{Ref: r, Status: assess.Ready, Want: fleet.Options{Tokens: fleet.TokensRequired}}
	}
	index := inventory.NewIndex(&snapshot)
	ref := fleet.Ref{Place: b.fixture.Place, Kind: inventory.KindLaunchTemplate, ID: sharedTemplate}
	needs, manuals := e.Kind.Propose(kind.Case{
		Resource: index.Resource(ref), Verdict: judge(ref), Index: index, Judge: judge,
	})
	if len(needs) != 6 || len(manuals) != 0 {
		t.Fatalf("%d needs and the manual steps %v; want 6 and none", len(needs), manuals)
	}
	var done []carried
	outputs := map[string]string{}
	for i := range needs {
		n := &needs[i]
		k := kinds[n.Ref.Kind]
		verb, _ := k.Verb(n.Action)
		c := carryOut(t, s.clock, drivers[n.Ref.Kind], verb, n, outputs)
		done = append(done, c)
		sameImages(t, string(n.Key()), before, s.launches(reality{t}))
	}
	for i, came := range s.launches(reality{t}) {
		if !strings.Contains(came, "tokens=required") {
			t.Errorf("at the end %+v launches %s", b.fixture.Launches[i], came)
		}
		if i != 2 && !strings.Contains(came, "hops=2 ipv6=disabled tags=enabled") {
			t.Errorf("at the end %+v has lost its other options: %s", b.fixture.Launches[i], came)
		}
	}
	want := fleet.State{inventory.FieldDefaultVersion: "6", inventory.FieldLatestVersion: "7"}
	if got := s.read(reality{t}, sharedTemplate).State; !got.Equal(want) {
		t.Errorf("the template ended at %v; want default 6 and latest 7, which are two new versions", got)
	}
	for _, c := range slices.Backward(done) {
		if _, err := Reference().Apply(t.Context(), s.clock, c.driver, c.verb, c.back); err != nil {
			t.Fatalf("undo %s of %s: %v", c.back.Verb, c.back.ID, err)
		}
		sameImages(t, "undoing "+c.back.Verb, before, s.launches(reality{t}))
	}
	if after := s.launches(reality{t}); !slices.Equal(after, before) {
		t.Errorf("after the rollback the groups launch\n  %q, not\n  %q", after, before)
	}
}

func carryOut(
	t *testing.T, c clock.Clock, d kind.Driver, verb kind.Verb, n *plan.Need, outputs map[string]string,
) carried {
	t.Helper()
	own := plan.OutputOf(n.Key(), "Version")
	fill := func(m map[string]string) map[string]string {
		m = maps.Clone(m)
		for k, v := range m {
			if out, ok := outputs[v]; ok {
				m[k] = out
			} else if v == own {
				m[k] = "${Version}"
			}
		}
		return m
	}
	if err := c.Sleep(t.Context(), lag); err != nil {
		t.Fatal(err)
	}
	r, err := d.Read(t.Context(), n.Ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	w := kind.Write{
		Place: n.Ref.Place, ID: n.Ref.ID, Verb: n.Action, Before: r.State, After: r.State.With(fleet.State(fill(n.Patch))),
		Params: fill(n.Params), Token: "token-" + n.Variant, Marker: "marker-" + n.Variant,
	}
	made, err := Reference().Apply(t.Context(), c, d, verb, w)
	if err != nil {
		t.Fatalf("%s: %v", n.Key(), err)
	}
	if v := made.Outputs["Version"]; v != "" {
		outputs[own] = v
	}
	return carried{driver: d, verb: verb, back: undo(w, made)}
}

func sameImages(t *testing.T, when string, before, now []string) {
	t.Helper()
	for i := range before {
		was, _, _ := strings.Cut(before[i], " ")
		is, _, _ := strings.Cut(now[i], " ")
		if was != is {
			t.Errorf("after %s launch %d takes image %s, not %s", when, i, is, was)
		}
	}
}

// withoutDevices is an HTTP client that loses the block devices of a new version, as EC2 loses their snapshots.
type withoutDevices struct{ aws.HTTPClient }

func (c withoutDevices) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	for name := range form {
		if strings.HasPrefix(name, "LaunchTemplateData.BlockDeviceMapping.") {
			form.Del(name)
		}
	}
	body = []byte(form.Encode())
	r = r.Clone(r.Context())
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return c.HTTPClient.Do(r)
}

// TestCopyThatDiffers checks that a version that comes out different from its source is removed again, both when the
// write finds it and when a crash comes between.
func TestCopyThatDiffers(t *testing.T) {
	for _, crash := range []bool{false, true} {
		b, w := templateBench(t)
		open := b.entry.Open
		b.entry.Open = func(cfg aws.Config, place fleet.Place, c clock.Clock) kind.Driver {
			cfg.HTTPClient = withoutDevices{cfg.HTTPClient}
			return open(cfg, place, c)
		}
		s := b.site(reality{t})
		was := s.read(reality{t}, w.ID)
		write := s.prepare(w, was)
		var err error
		if crash {
			ctx, cancel := context.WithCancel(t.Context())
			s.cutAfterCreate(t, cancel)
			if _, err = s.driver.Write(ctx, write); fleet.ClassOf(err) != fleet.ErrTransient {
				t.Errorf("interrupted after the creation: %v; want class transient", err)
			}
			s.heal()
			s.settle()
			_, err = s.driver.Find(t.Context(), write)
		} else {
			_, err = s.driver.Write(t.Context(), write)
		}
		if fleet.ClassOf(err) != fleet.ErrConflict || !strings.Contains(err.Error(), "BlockDeviceMappings") {
			t.Errorf("crash %t: got %v; want a conflict that names BlockDeviceMappings", crash, err)
		}
		if now := s.read(reality{t}, w.ID); !now.State.Equal(was.State) {
			t.Errorf("crash %t: the version is still there: %s", crash, fleet.DescribeDiff(was.State, now.State))
		}
		if n := s.changed()["ec2:DeleteLaunchTemplateVersions"]; n != 1 {
			t.Errorf("crash %t: %d deletions, not one", crash, n)
		}
	}
}

// templateBench is the kind launch-template with its fixture, and its write that copies block devices.
func templateBench(t *testing.T) (*bench, *writeCase) {
	t.Helper()
	e, _ := all.Find(inventory.KindLaunchTemplate)
	f, err := readFixture(os.DirFS("../../kinds"), "launchtemplate/testdata/fixture.json")
	if err != nil {
		t.Fatal(err)
	}
	return &bench{entry: e, fixture: f}, &f.Writes[0]
}

// cutAfterCreate cancels as soon as a version was created.
func (s *site) cutAfterCreate(t *testing.T, cancel func()) {
	t.Helper()
	f := core.Fault{Principal: byRole, Action: "CreateLaunchTemplateVersion", After: func(*core.Call) { cancel() }}
	if _, err := s.world.AddFault(f); err != nil {
		t.Fatal(err)
	}
}
