package assess_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// image adds an AMI.
func (w *world) image(id string, v2 bool) {
	r := inventory.Resource{Ref: ref(inventory.KindImage, id), State: fleet.State{}, Says: &fleet.Options{}}
	if v2 {
		r.Says = &fleet.Options{Tokens: fleet.TokensRequired, HopLimit: 2}
	}
	w.resources = append(w.resources, r)
}

// of names the images of the newest resource: AttrImage by key, "" for the resource's own.
func (w *world) of(images map[string]string) {
	r := &w.resources[len(w.resources)-1]
	r.Attrs = map[string]string{}
	for key, id := range images {
		if key != "" {
			key = "/" + key
		}
		r.Attrs[inventory.AttrImage+key] = id
	}
}

// launcher adds a launcher of a kind, with options of its own or links.
func (w *world) launcher(kind, id string, says *fleet.Options, links ...inventory.Link) fleet.Ref {
	r := inventory.Resource{Ref: ref(kind, id), Name: id, Says: says, Links: links}
	w.resources = append(w.resources, r)
	return r.Ref
}

func from(kind, id, selector, field string) inventory.Link {
	return inventory.Link{Relation: inventory.LaunchesFrom, To: ref(kind, id), Selector: selector, Field: field}
}

// lines are launches in words: who, through what, the answer, and tokens and hop limit with who decides them.
func lines(list []assess.FutureLaunch) []string {
	var out []string
	for _, f := range list {
		through := strings.Trim(f.From.ID+" "+f.Selector+" "+f.Version, " ")
		setting := func(s assess.Setting) string {
			if s.Unknown != "" {
				return "?"
			}
			return s.Value + " by " + s.By()
		}
		out = append(out, fmt.Sprintf("%s <%s> %s: %s, %s", f.By.ID, through, f.V1, setting(f.Launch.Tokens), setting(f.Launch.HopLimit)))
	}
	return out
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

// TestTemplateConsumers: one template, judged for each of its consumers by what that one launches.
func TestTemplateConsumers(t *testing.T) {
	lt := inventory.KindLaunchTemplate
	for _, c := range []struct {
		name  string
		build func(w *world)
		want  []string
		// status of consumers and of the template, whose hosts have quiet evidence
		status map[string]assess.Status
	}{
		{"no metadata options, and nobody else says", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"1": {}}, "1", "1")
			w.of(map[string]string{"1": "ami-old"})
			w.group("web", "lt-1", "$Default")
		}, []string{"web <lt-1 $Default 1> open: optional by EC2's own default, 1 by EC2's own default"},
			map[string]assess.Status{"web": assess.Ready, "lt-1": assess.Ready}},
		{"no metadata options, and an image that requires tokens", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"1": {}}, "1", "1")
			w.of(map[string]string{"1": "ami-new"})
			w.group("web", "lt-1", "$Default")
		}, []string{"web <lt-1 $Default 1> closed: required by image, 2 by image"},
			map[string]assess.Status{"web": assess.Done, "lt-1": assess.Done}},
		{"no metadata options, and an image that was not read", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"1": {}}, "1", "1")
			w.of(map[string]string{"1": "ami-gone"})
			w.group("web", "lt-1", "$Default")
		}, []string{"web <lt-1 $Default 1> unknown: ?, ?"},
			map[string]assess.Status{"web": assess.Ready, "lt-1": assess.Ready}},
		{"no metadata options, and a default that requires tokens, over an image that was not read", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"1": {}}, "1", "1")
			w.of(map[string]string{"1": "ami-gone"})
			w.group("web", "lt-1", "$Default")
			w.defaults(fleet.Options{Tokens: "required"})
		}, []string{"web <lt-1 $Default 1> closed: required by account default, ?"},
			map[string]assess.Status{"web": assess.Done, "lt-1": assess.Done}},
		{"no metadata options, and a default that is optional, over an image that requires tokens", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"1": {}}, "1", "1")
			w.of(map[string]string{"1": "ami-new"})
			w.group("web", "lt-1", "$Default")
			w.defaults(fleet.Options{Tokens: "optional"})
		}, []string{"web <lt-1 $Default 1> open: optional by account default, 2 by image"},
			map[string]assess.Status{"web": assess.Ready, "lt-1": assess.Ready}},
		{"the default is optional while an old version is required", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"1": required(), "2": optional()}, "2", "2")
			w.group("web", "lt-1", "$Default")
			w.group("old", "lt-1", "1")
		}, []string{"old <lt-1 1 1> closed: required by template version 1, 1 by template version 1",
			"web <lt-1 $Default 2> open: optional by template version 2, 1 by template version 2"},
			map[string]assess.Status{"web": assess.Ready, "old": assess.Done, "lt-1": assess.Ready}},
		{"the default is required while the latest is optional and is launched", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"1": required(), "2": optional()}, "1", "2")
			w.group("web", "lt-1", "$Latest")
		}, []string{"web <lt-1 $Latest 2> open: optional by template version 2, 1 by template version 2"},
			map[string]assess.Status{"web": assess.Ready, "lt-1": assess.Ready}},
		{"pinned by number by one group and by $Latest by another", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"3": optional(), "5": required()}, "3", "5")
			w.group("new", "lt-1", "$Latest")
			w.group("pinned", "lt-1", "3")
		}, []string{"new <lt-1 $Latest 5> closed: required by template version 5, 1 by template version 5",
			"pinned <lt-1 3 3> open: optional by template version 3, 1 by template version 3"},
			map[string]assess.Status{"new": assess.Done, "pinned": assess.Ready, "lt-1": assess.Ready}},
		{"all consumers are on the version that is required, and the default is optional", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"3": optional(), "5": required()}, "3", "5")
			w.group("new", "lt-1", "$Latest")
			w.group("pinned", "lt-1", "5")
		}, []string{"new <lt-1 $Latest 5> closed: required by template version 5, 1 by template version 5",
			"pinned <lt-1 5 5> closed: required by template version 5, 1 by template version 5"},
			map[string]assess.Status{"new": assess.Done, "pinned": assess.Done, "lt-1": assess.Done}},
		{"an override names another version", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"1": optional(), "2": required()}, "2", "2")
			w.launcher(inventory.KindAutoScaling, "mixed", nil, from(lt, "lt-1", "$Default", "Mixed.Version"),
				from(lt, "lt-1", "1", "Overrides.0.Version"))
		}, []string{"mixed <lt-1 $Default 2> closed: required by template version 2, 1 by template version 2",
			"mixed <lt-1 1 1> open: optional by template version 1, 1 by template version 1"},
			map[string]assess.Status{"mixed": assess.Ready, "lt-1": assess.Ready}},
		{"a version that was not read", func(w *world) {
			w.template("lt-1", map[string]fleet.Options{"2": required()}, "2", "2")
			w.group("pinned", "lt-1", "1")
		}, []string{"pinned <lt-1 1 1> unknown: ?, ?"},
			map[string]assess.Status{"pinned": assess.Unknown, "lt-1": assess.Blocked}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			c.build(w)
			w.image("ami-old", false)
			w.image("ami-new", true)
			for _, r := range w.resources {
				if r.Ref.Kind == inventory.KindAutoScaling {
					w.covers(w.instance("i-"+r.Ref.ID, 13.9, memberOf(r.Ref.ID)), 14, 0, 0)
				}
			}
			report := w.judge(t)
			var consumers []assess.FutureLaunch
			for _, f := range report.Launches() {
				if f.By.Kind == inventory.KindAutoScaling {
					consumers = append(consumers, f)
				}
			}
			same(t, lines(consumers), c.want)
			for id, want := range c.status {
				kind := inventory.KindAutoScaling
				if id == "lt-1" {
					kind = lt
				}
				if v := report.Verdict(ref(kind, id)); v.Status != want {
					t.Errorf("%s is %s (%s), want %s", id, v.Status, v.Why(), want)
				}
			}
		})
	}
}

// TestEveryLaunchOfAPlace lists launchers of all sorts, unused sources, and RunInstances.
func TestEveryLaunchOfAPlace(t *testing.T) {
	w := newWorld()
	lt, lc := inventory.KindLaunchTemplate, inventory.KindLaunchConfiguration
	w.template("lt-used", map[string]fleet.Options{"1": optional()}, "1", "1")
	w.template("lt-unused", map[string]fleet.Options{"1": required(), "2": {HopLimit: 3}}, "1", "2")
	w.of(map[string]string{"1": "ami-old", "2": "ami-new"})
	w.template("lt-people", map[string]fleet.Options{"1": {}, "2": required()}, "1", "2")
	w.of(map[string]string{"": "ami-new"})
	w.instance("i-people", 5, launchedFrom("lt-people"))
	w.resources = append(w.resources, inventory.Resource{Ref: ref(lc, "config"), Launch: map[string]fleet.Options{"": {Tokens: "required"}}})
	w.of(map[string]string{"": "ami-old"})
	w.resources = append(w.resources, inventory.Resource{Ref: ref(lc, "config-unused"), Launch: map[string]fleet.Options{"": {}}})
	w.of(map[string]string{"": "ami-old"})
	w.launcher(inventory.KindAutoScaling, "by-config", nil, from(lc, "config", "", ""))
	w.launcher(inventory.KindAutoScaling, "people-latest", nil, from(lt, "lt-people", "$Latest", ""))
	w.launcher(inventory.KindSpotFleet, "inline", &fleet.Options{})
	w.of(map[string]string{"": "ami-old"})
	w.launcher(inventory.KindSpotFleet, "inline-images", &fleet.Options{})
	w.of(map[string]string{"": "ami-new", "0": "ami-new", "1": "ami-old", "2": "ami-old"})
	w.launcher(inventory.KindFleet, "overrides", nil, from(lt, "lt-silent", "1", "a"))
	w.of(map[string]string{"0": "ami-new"})
	w.launcher(inventory.KindFleet, "overrides-own", nil, from(lt, "lt-silent", "1", "a"), from(lt, "lt-silent", "1", "b"))
	w.of(map[string]string{"b": "ami-new"})
	w.launcher(inventory.KindFleet, "overrides-alike", nil, from(lt, "lt-silent", "1", "a"))
	w.of(map[string]string{"0": "ami-old"})
	w.launcher(inventory.KindBatch, "replaces", nil, from(lt, "lt-silent", "1", "a"))
	w.of(map[string]string{"": "ami-new"})
	w.template("lt-silent", map[string]fleet.Options{"1": {}}, "1", "1")
	w.of(map[string]string{"1": "ami-old"})
	w.launcher(inventory.KindFleet, "fleet", nil, from(lt, "lt-used", "1", "a"), from(lt, "lt-missing", "$Default", "b"))
	w.launcher(inventory.KindImageBuilder, "builder", &fleet.Options{Tokens: "required", HopLimit: 2})
	w.launcher(inventory.KindBatch, "batch", &fleet.Options{HopLimit: 2}, from(lt, "lt-used", "1", ""))
	w.launcher(inventory.KindAutoScaling, "of-nodes", nil, from(lt, "lt-used", "$Latest", ""))
	w.launcher(inventory.KindNodegroup, "nodes", nil, inventory.Link{Relation: inventory.Operates, To: ref(inventory.KindAutoScaling, "of-nodes")})
	w.launcher(inventory.KindNodegroup, "nodes-unread", nil, inventory.Link{Relation: inventory.Operates, To: ref(inventory.KindAutoScaling, "gone")})
	w.launcher(inventory.KindEMR, "emr", &fleet.Options{})
	w.image("ami-old", false)
	w.image("ami-new", true)
	report := w.judge(t)
	same(t, lines(report.Launches()), []string{
		"metadata-defaults <> unknown: ?, ?",
		"by-config <config> closed: required by launch configuration, 1 by EC2's own default",
		"of-nodes <lt-used $Latest 1> open: optional by template version 1, 1 by template version 1",
		"people-latest <lt-people $Latest 2> closed: required by template version 2, 1 by template version 2",
		"batch <lt-used 1 1> open: optional by template version 1, 2 by launch parameters",
		"replaces <lt-silent 1 1> closed: required by image, 2 by image",
		"fleet <lt-used 1 1> open: optional by template version 1, 1 by template version 1",
		"fleet <lt-missing $Default> unknown: ?, ?",
		"overrides <lt-silent 1 1> unknown: ?, ?",
		"overrides-alike <lt-silent 1 1> open: optional by EC2's own default, 1 by EC2's own default",
		"overrides-own <lt-silent 1 1> open: optional by EC2's own default, 1 by EC2's own default",
		"overrides-own <lt-silent 1 1> closed: required by image, 2 by image",
		"nodes-unread <> unknown: ?, ?",
		"emr <> unknown: ?, ?",
		"builder <> closed: required by launch parameters, 2 by launch parameters",
		"config-unused <config-unused $Default> open: optional by EC2's own default, 1 by EC2's own default",
		"lt-people <lt-people $Default 1> closed: required by image, 2 by image",
		"lt-unused <lt-unused $Default 1> closed: required by template version 1, 1 by template version 1",
		"lt-unused <lt-unused $Latest 2> closed: required by image, 3 by template version 2",
		"inline <> open: optional by EC2's own default, 1 by EC2's own default",
		"inline-images <> closed: required by image, 2 by image",
		"inline-images <> open: optional by EC2's own default, 1 by EC2's own default",
	})
	for _, f := range report.Launches() {
		if f.V1 != f.Launch.V1() || f.Verdict != report.Verdict(f.By) {
			t.Errorf("%s: %s, %v", f.By, f.V1, f.Verdict)
		}
	}
	if v := report.Verdict(ref(inventory.KindNodegroup, "nodes")); v.Effective.Tokens != "optional" {
		t.Errorf("what a node group launches is what its group launches: %+v (%s)", v.Effective, v.Why())
	}
}

// TestLaunchesUnderEnforcement: what would be optional is refused, and what is not known is closed either way.
func TestLaunchesUnderEnforcement(t *testing.T) {
	w := newWorld()
	w.template("lt-1", map[string]fleet.Options{"1": optional(), "2": required()}, "1", "2")
	w.group("fails", "lt-1", "1")
	w.group("works", "lt-1", "2")
	w.covers(w.instance("i-1", 13.9, memberOf("fails")), 14, 0, 0)
	d := w.defaults(fleet.Options{})
	w.resources[len(w.resources)-1].State[assess.FieldEnforced] = fleet.Enabled
	report := w.judge(t)
	same(t, lines(report.Launches()), []string{
		"metadata-defaults <> closed: ?, ?",
		"fails <lt-1 1 1> refused: optional by template version 1, 1 by template version 1",
		"works <lt-1 2 2> closed: required by template version 2, 1 by template version 2",
	})
	if v := report.Verdict(ref(inventory.KindAutoScaling, "fails")); v.Status != assess.Ready || !v.Has(assess.CodeRefusedLaunch) {
		t.Errorf("a group whose launches fail: %s (%s)", v.Status, v.Why())
	}
	if v := report.Verdict(d); v == nil {
		t.Error("the defaults were not judged")
	}
}

// TestLaunchesWithGaps: what could not be read leaves unknown what depends on it, with the reason.
func TestLaunchesWithGaps(t *testing.T) {
	for kind, want := range map[string][]string{
		inventory.KindAccountDefaults: {"metadata-defaults <> unknown: ?, ?", "says <lt-1 2 2> open: optional by template version 2, 1 by template version 2",
			"silent <lt-1 1 1> unknown: ?, ?"},
		inventory.KindImage: {"metadata-defaults <> unknown: ?, ?", "says <lt-1 2 2> open: optional by template version 2, 1 by template version 2",
			"silent <lt-1 1 1> unknown: ?, ?"},
	} {
		w := newWorld()
		w.template("lt-1", map[string]fleet.Options{"1": {}, "2": optional()}, "1", "2")
		w.of(map[string]string{"1": "ami-1", "2": "ami-1"})
		w.group("says", "lt-1", "2")
		w.group("silent", "lt-1", "1")
		if kind != inventory.KindImage {
			w.image("ami-1", false)
		}
		for name := range manners() {
			w.scopes = append(w.scopes, inventory.Scope{Place: place, Kind: name, Status: inventory.ScopeComplete})
		}
		w.scopes = append(w.scopes, inventory.Scope{Place: place, Kind: kind, Status: inventory.ScopeGap, Class: fleet.ErrDenied, Detail: "no permission"})
		list := w.judge(t).Launches()
		same(t, lines(list), want)
		if why := list[len(list)-1].Launch.Tokens.Unknown; !strings.Contains(why, kind+" could not be read (denied): no permission") {
			t.Errorf("%s: %q", kind, why)
		}
	}
}

// TestDefaultUnderImages: a group whose image requires tokens inherits nothing from the account's default.
func TestDefaultUnderImages(t *testing.T) {
	w := newWorld()
	w.template("lt-1", map[string]fleet.Options{"1": {}}, "1", "1")
	w.of(map[string]string{"1": "ami-new"})
	g := w.group("web", "lt-1", "$Default")
	w.covers(w.instance("i-1", 13.9, memberOf("web"), set(fleet.FieldHopLimit, "2")), 14, 0, 0)
	w.image("ami-new", true)
	d := w.defaults(fleet.Options{})
	report := w.judge(t)
	if v := report.Verdict(g); v.Status != assess.Done {
		t.Errorf("group: %s (%s)", v.Status, v.Why())
	}
	if v := report.Verdict(d); v.Status != assess.Ready {
		t.Errorf("default: %s (%s)", v.Status, v.Why())
	}
}

// TestNext: what the next host in an instance's place would get.
func TestNext(t *testing.T) {
	w := newWorld()
	w.template("lt-1", map[string]fleet.Options{"1": required(), "2": optional()}, "1", "2")
	w.group("web", "lt-1", "$Latest")
	w.instance("i-grouped", 5, memberOf("web"), launchedFrom("lt-1"))
	w.instance("i-outlived", 5, memberOf("gone"), launchedFrom("lt-1"))
	w.instance("i-templated", 5, launchedFrom("lt-1"))
	w.instance("i-image", 5)
	w.of(map[string]string{"": "ami-new"})
	w.instance("i-unread", 5)
	w.of(map[string]string{"": "ami-gone"})
	w.image("ami-new", true)
	report := w.judge(t)
	for id, want := range map[string]string{
		"i-grouped": "optional by template version 2", "i-outlived": "required by template version 1",
		"i-templated": "required by template version 1", "i-image": "required by image", "i-unread": " by ",
	} {
		if s := report.Next(report.Index.Resource(ref(inventory.KindInstance, id))).Tokens; s.Value+" by "+s.By() != want {
			t.Errorf("%s: %+v, want %s", id, s, want)
		}
	}
}

// TestNothingIsLaunchedWhereARegionIsOff: such a place is no launch, and nothing unknown.
func TestNothingIsLaunchedWhereARegionIsOff(t *testing.T) {
	w := newWorld()
	w.scopes = []inventory.Scope{{Place: place, Status: inventory.ScopeDisabled}}
	if list := w.judge(t).Launches(); len(list) != 0 {
		t.Errorf("%v", lines(list))
	}
}

// TestWhoFollowsAtUpdatesOnly: Batch takes the number that $Default means when it replaces its instances, and shows only the word.
func TestWhoFollowsAtUpdatesOnly(t *testing.T) {
	w := newWorld()
	w.template("lt-1", map[string]fleet.Options{"1": optional(), "2": required()}, "2", "2")
	moving := from(inventory.KindLaunchTemplate, "lt-1", "$Default", "")
	moving.Starts = true
	numbered := from(inventory.KindLaunchTemplate, "lt-1", "2", "a")
	numbered.Starts = true
	w.launcher(inventory.KindBatch, "moving", nil, moving)
	w.launcher(inventory.KindBatch, "numbered", nil, numbered)
	report := w.judge(t)
	if v := report.Verdict(ref(inventory.KindBatch, "moving")); v.Status != assess.Unknown || !v.Has(assess.CodeUnresolved) {
		t.Errorf("what it launches is not known, and the verdict is %s (%s)", v.Status, v.Why())
	}
	if v := report.Verdict(ref(inventory.KindBatch, "numbered")); v.Status != assess.Done {
		t.Errorf("it names a version that requires tokens, and the verdict is %s (%s)", v.Status, v.Why())
	}
}
