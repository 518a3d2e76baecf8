package assess_test

import (
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// An image is ready when everything that takes it from the image is ready or done, and not before; whoever says it himself has no
// part in it.
func TestImages(t *testing.T) {
	lt := inventory.KindLaunchTemplate
	ready := func(w *world, group string) {
		i := w.instance("i-of-"+group, 5, memberOf(group))
		w.covers(i, 14, 0, 0)
	}
	calls := func(w *world, group string) {
		i := w.instance("i-of-"+group, 5, memberOf(group))
		w.covers(i, 14, 0, 3)
	}
	for _, tt := range []struct {
		name string
		set  func(w *world)
		want assess.Status
		why  string
	}{
		{"a silent group that is ready", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"1": {}}, "1", "1")
			w.of(map[string]string{"": "ami-1", "1": "ami-1"})
			w.launcher(inventory.KindAutoScaling, "web", nil, from(lt, "lt-1", "1", ""))
			ready(w, "web")
		}, assess.Ready, "ready or done"},
		{"a silent group that calls v1", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"1": {}}, "1", "1")
			w.of(map[string]string{"": "ami-1", "1": "ami-1"})
			w.launcher(inventory.KindAutoScaling, "web", nil, from(lt, "lt-1", "1", ""))
			calls(w, "web")
		}, assess.Blocked, "auto-scaling-group web is blocked"},
		{"one that calls v1 is pinned by its template, one is ready", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"1": {}, "2": optional()}, "1", "2")
			w.of(map[string]string{"": "ami-1", "1": "ami-1", "2": "ami-1"})
			w.launcher(inventory.KindAutoScaling, "web", nil, from(lt, "lt-1", "1", ""))
			w.launcher(inventory.KindAutoScaling, "old", nil, from(lt, "lt-1", "2", ""))
			ready(w, "web")
			calls(w, "old")
		}, assess.Ready, "ready or done"},
		{"the account's default decides for all", func(w *world) {
			w.defaults(fleet.Options{Tokens: fleet.TokensOptional})
			w.template("lt-1", map[string]fleet.Options{"1": {}}, "1", "1")
			w.of(map[string]string{"": "ami-1", "1": "ami-1"})
			w.launcher(inventory.KindAutoScaling, "old", nil, from(lt, "lt-1", "1", ""))
			calls(w, "old")
		}, assess.Unknown, "nothing that was read"},
		{"a bare instance of which nothing is known", func(w *world) {
			w.instance("i-1", 5)
			w.of(map[string]string{"": "ami-1"})
		}, assess.Blocked, "ec2-instance i-1 is unknown"},
		{"nobody launches it", func(w *world) {}, assess.Unknown, "nothing that was read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			tt.set(w)
			w.image("ami-1", false)
			v := w.judge(t).Verdict(ref(inventory.KindImage, "ami-1"))
			if v.Status != tt.want || !strings.Contains(v.Why(), tt.why) {
				t.Errorf("%s: %s; want %s: %s", v.Status, v.Why(), tt.want, tt.why)
			}
		})
	}
	w := newWorld()
	w.image("ami-1", true)
	w.image("ami-2", false)
	w.resources[1].Attrs = map[string]string{inventory.AttrImageOwner: "amazon"}
	report := w.judge(t)
	if v := report.Verdict(ref(inventory.KindImage, "ami-1")); v.Status != assess.Done {
		t.Errorf("an image that requires tokens is %s", v.Status)
	}
	if v := report.Verdict(ref(inventory.KindImage, "ami-2")); v.Status != assess.Blocked || !v.Has(assess.CodeManaged) {
		t.Errorf("another's image is %s", v.Why())
	}
}

// A policy of the organization is ready when everything in the accounts that it binds is, and all of them were read.
func TestPoliciesOfTheOrganization(t *testing.T) {
	config, problems := policy.Parse([]byte("version: 1\n"), "imdsctl.yaml", nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	at := fleet.Place{Partition: "aws", Account: "111122223333"}
	r := fleet.Ref{Place: at, Kind: inventory.KindOrganizationPolicy, ID: "p-1"}
	judge := func(says *fleet.Options, below map[fleet.AccountID]*assess.Below) *assess.Verdict {
		return assess.Place(assess.Input{Policy: config, Below: below,
			Manners: map[string]assess.Manner{inventory.KindOrganizationPolicy: {Role: assess.RolePolicy}},
			Snapshot: &inventory.Snapshot{Place: at, Resources: []inventory.Resource{{Ref: r, Says: says,
				Attrs: map[string]string{assess.AttrAccounts: "444455556666,777788889999"}}}}}).Verdict(r)
	}
	fine := &assess.Below{Places: 2}
	open := &fleet.Options{Tokens: fleet.TokensOptional}
	for _, tt := range []struct {
		name  string
		says  *fleet.Options
		other *assess.Below
		want  assess.Status
	}{
		{"all ready", open, fine, assess.Ready},
		{"an account was not read", open, nil, assess.Unknown},
		{"an account has gaps", open, &assess.Below{Places: 2, Gaps: 1}, assess.Unknown},
		{"something is blocked", open, &assess.Below{Places: 2, Against: 1, First: []string{"ec2-instance i-1 is blocked"}}, assess.Blocked},
		{"it requires tokens already", &fleet.Options{Tokens: fleet.TokensRequired}, nil, assess.Done},
		{"it says nothing", nil, nil, assess.Done},
	} {
		below := map[fleet.AccountID]*assess.Below{"444455556666": fine}
		if tt.other != nil {
			below["777788889999"] = tt.other
		}
		if v := judge(tt.says, below); v.Status != tt.want {
			t.Errorf("%s: %s (%s)", tt.name, v.Status, v.Why())
		}
	}
}
