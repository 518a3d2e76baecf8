package plan_test

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// variedScene has a group with a template, bare instances, a follow-up, an exemption, windows, gates and an override.
func variedScene() *scene {
	s := newScene()
	s.config = `exceptions: [{match: {name: i-spare}, owner: team, reason: vendor, expires: 2027-01-31}]
follow_ups: [{name: restart, manual: restart the proxy, match: {name: i-0}}]
windows: [{name: nights, from: "22:00", to: "04:00", timezone: UTC}]
gates: {commands: [{name: smoke, run: [/bin/true]}]}
waves: [{name: first, criticality: [low, medium]}, {name: then, criticality: [high, critical], approval: true}]
`
	lt, g := s.template("lt-1"), s.group("web", "lt-1", "$Default")
	for i := range 4 {
		s.tokens(s.instance(fmt.Sprintf("i-%d", i), "web", nil))
	}
	s.tokens(s.instance("i-alone", "", nil))
	s.tokens(s.instance("i-spare", "", nil))
	create := plan.Need{Ref: lt, Action: "create-version", Class: plan.ClassCreate, Stage: plan.StageLaunch, Variant: "copy-of-3",
		For: []fleet.Ref{g}, Outputs: []string{"Version"}, Params: map[string]string{"source": "3"}}
	create.Patch = fleet.State{"LatestVersion": plan.OutputOf(create.Key(), "Version")}
	move := plan.Need{Ref: lt, Action: "set-default", Class: plan.ClassSet, Stage: plan.StageLaunch, For: []fleet.Ref{g},
		Patch: fleet.State{"DefaultVersion": plan.OutputOf(create.Key(), "Version")}, After: []plan.Key{create.Key()}}
	s.needs = append(s.needs, create, move)
	return s
}

func varied(t interface {
	Fatal(...any)
	Helper()
}) *plan.Plan {
	t.Helper()
	p, err := variedScene().build(t)
	if err != nil {
		t.Fatal(err)
	}
	p.Manuals = append(p.Manuals, plan.Manual{Ref: ref("ec2-instance", "i-old"), Name: "old", Reason: "it is old", Remedy: "end it",
		Commands: []string{"aws ec2 terminate-instances"}})
	p.Changes[0].Residue, p.Changes[0].Override = "a version", "alice: known"
	p.Header.Estimate = plan.NewEstimate(p, func(string) (float64, float64) { return 1, 0.01 })
	p.Header.Estimate.GateCalls["ec2:X"] = 1
	return p
}

// copied is a plan as its file has it.
func copied(t interface {
	Fatal(...any)
	Helper()
}, p *plan.Plan) *plan.Plan {
	t.Helper()
	var file bytes.Buffer
	if err := plan.Write(&file, p); err != nil {
		t.Fatal(err)
	}
	out, err := plan.Read(&file, "plan.json")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAPlanEqualsItself(t *testing.T) {
	p := varied(t)
	if len(p.Changes) < 8 || len(p.Header.Calendars) == 0 || len(p.Header.Rules.Gates) == 0 || len(p.Exempt) == 0 || p.Header.Summary.FollowUps < 2 {
		t.Fatalf("the scene lacks something: %+v", p.Header)
	}
	d := plan.Compare(p, copied(t, p))
	if !d.Equal() || len(d.Course) != 0 || d.Renewed != 0 || d.Same != len(p.Changes) {
		t.Errorf("a plan differs from itself: %+v", d)
	}
}

// The same fleet planned an hour later is no difference, follow-ups and all.
func TestTheTimeOfAPlanIsNoDifference(t *testing.T) {
	before := varied(t)
	before.Header.Estimate = nil
	after := copied(t, before)
	later := time.Hour
	after.Header.Created, after.Header.Taken = after.Header.Created.Add(later), after.Header.Taken.Add(later)
	after.Header.Tool, after.Header.Config, after.Header.Database = "2", "other spelling", "elsewhere.db"
	was, is := fmt.Sprint(before.Header.Created.Unix()), fmt.Sprint(after.Header.Created.Unix())
	renamed := map[string]string{}
	for i := range after.Changes {
		c := &after.Changes[i]
		c.Evidence.Start, c.Evidence.End = c.Evidence.Start.Add(later), c.Evidence.End.Add(later)
		c.Evidence.Reason = "another number of periods"
		if c.Ref.Kind == plan.KindFollowUp {
			c.Ref.ID = strings.TrimSuffix(c.Ref.ID, was) + is
			renamed[c.ID], c.ID = "c-"+c.ID[3:]+"0", "c-"+c.ID[3:]+"0"
		}
	}
	d := plan.Compare(before, after)
	if !d.Equal() || d.Renewed != len(before.Changes) || len(renamed) == 0 {
		t.Errorf("%d renewed of %d, %+v", d.Renewed, len(before.Changes), d)
	}
}

func TestCompare(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*plan.Plan)
		want func(*plan.Difference) bool
	}{
		"a change went": {func(p *plan.Plan) { p.Changes = p.Changes[1:] }, func(d *plan.Difference) bool {
			return len(d.Changes.Went) == 1 && d.Changes.Went[0].Stack == "i-alone" && d.Changes.Went[0].Stage == plan.StageFleet
		}},
		"another target": {func(p *plan.Plan) {
			p.Changes[0].After = p.Changes[0].After.With(fleet.State{"HttpTokens": "optional"})
		},
			func(d *plan.Difference) bool {
				return len(d.Changes.Differ) == 1 && d.Changes.Differ[0].Fields[0] == plan.Field{Field: "after HttpTokens", Old: "required", New: "optional"}
			}},
		"a stack moved": {func(p *plan.Plan) {
			p.Header.Waves = append(p.Header.Waves, plan.Wave{Name: "then", Approval: true})
			p.Stacks[0].Wave = 1
		}, func(d *plan.Difference) bool {
			return len(d.Stacks) == 1 && d.Stacks[0].Moved() && d.Stacks[0].To == "then" && d.Stacks[0].From == "first" &&
				d.Rules[0] == plan.Field{Field: "waves", Old: "first", New: "first, then"}
		}},
		"a longer delay": {func(p *plan.Plan) { p.Header.Rules.MetricDelay += time.Minute }, func(d *plan.Difference) bool {
			return d.Rules[0] == plan.Field{Field: "metric_delay", Old: "5m0s", New: "6m0s"}
		}},
		"no gate any more": {func(p *plan.Plan) { p.Header.Rules.Gates = nil; p.Stacks[0].Gates = nil; p.Stacks[1].Gates = nil },
			func(d *plan.Difference) bool {
				return d.Rules[0].Field == `gate command "smoke"` && d.Rules[0].New == plan.Unset && len(d.Stacks) == 2
			}},
		"at any time": {func(p *plan.Plan) { p.Stacks[0].Calendar = 0 }, func(d *plan.Difference) bool {
			return len(d.Stacks) == 1 && d.Stacks[0].Fields[0].Field == "windows and freezes" && d.Stacks[0].Fields[0].New == plan.Unset
		}},
		"nothing by hand": {func(p *plan.Plan) { p.Manuals = nil }, func(d *plan.Difference) bool { return len(d.Manuals.Went) == 2 }},
		"no exemption":    {func(p *plan.Plan) { p.Exempt = nil }, func(d *plan.Difference) bool { return len(d.Exempt.Went) == 1 }},
		"never ends": {func(p *plan.Plan) { p.Header.Estimate.Never = "a freeze" }, func(d *plan.Difference) bool {
			return d.Rules[0] == plan.Field{Field: "cannot end", Old: plan.Unset, New: "a freeze"}
		}},
		"overridden by another": {func(p *plan.Plan) { p.Changes[0].Override = "bob: known" }, func(d *plan.Difference) bool {
			return d.Changes.Differ[0].Fields[0] == plan.Field{Field: "override", Old: "alice: known", New: "bob: known"}
		}},
	} {
		p := varied(t)
		q := copied(t, p)
		tc.edit(q)
		if d := plan.Compare(p, q); d.Equal() || !tc.want(d) {
			t.Errorf("%s: %+v", name, d)
		}
		there, back := plan.Compare(p, q), plan.Compare(q, p)
		if len(there.Changes.Came) != len(back.Changes.Went) || len(there.Rules) != len(back.Rules) || len(there.Stacks) != len(back.Stacks) {
			t.Errorf("%s: the way back is another: %+v and %+v", name, there, back)
		}
	}
}

// untold are the parts of a plan that a comparison need not tell: what it is told by another part, and its time.
var untold = regexp.MustCompile(`^(Header\.(Format|Created|Tool|Config|Database|Taken)|Digest|` +
	`Header\.Summary\.(Changes|FollowUps|Stacks|Manuals|Exempt)|Header\.Estimate\.(Waves\[\d+\]\.Name))$`)

// Whatever single thing is altered in a plan, whoever compares it with the old one is told.
func TestEveryDifferenceIsReported(t *testing.T) {
	base := varied(t)
	var paths []string
	leaves(reflect.ValueOf(copied(t, base)).Elem(), "", func(path string, _ func()) { paths = append(paths, path) })
	alter := func(t interface {
		Fatal(...any)
		Helper()
	}, n int) *plan.Plan {
		p, i := copied(t, base), 0
		var edit func()
		leaves(reflect.ValueOf(p).Elem(), "", func(_ string, f func()) {
			if i == n {
				edit = f
			}
			i++
		})
		edit()
		return p
	}
	told := 0
	for i := range base.Changes { // the id of a follow-up has the time of its plan in it
		if at := slices.Index(paths, fmt.Sprintf("Changes[%d].ID", i)); base.Changes[i].Ref.Kind == plan.KindFollowUp {
			paths[at] = "Digest"
		}
	}
	for n := range paths {
		if untold.MatchString(paths[n]) {
			continue
		}
		told++
		d := plan.Compare(base, alter(t, n))
		if d.Equal() && len(d.Course) == 0 && d.Renewed == 0 {
			t.Errorf("nothing is told of a difference in %s", paths[n])
		}
	}
	if told < 300 {
		t.Errorf("only %d places of a plan were altered", told)
	}
	rapid.Check(t, func(t *rapid.T) { // and of two of them, neither hides the other from both directions
		n := rapid.IntRange(0, len(paths)-1).Draw(t, "first")
		m := rapid.IntRange(0, len(paths)-1).Draw(t, "second")
		x, y := alter(t, n), alter(t, m)
		if d := plan.Compare(x, alter(t, n)); !d.Equal() || len(d.Course)+d.Renewed > 0 {
			t.Fatalf("with %s altered the plan differs from itself: %+v", paths[n], d)
		}
		if n == m || untold.MatchString(paths[n]) || untold.MatchString(paths[m]) || paths[n] == paths[m] {
			return
		}
		if d := plan.Compare(x, y); d.Equal() && len(d.Course)+d.Renewed == 0 {
			t.Fatalf("%s and %s altered: nothing is told", paths[n], paths[m])
		}
	})
}

// leaves visits everything that can be altered below v, with a function that alters it.
func leaves(v reflect.Value, path string, visit func(path string, alter func())) {
	if stamp, ok := v.Interface().(time.Time); ok {
		visit(path, func() { v.Set(reflect.ValueOf(stamp.Add(time.Hour))) })
		return
	}
	if v.Type().PkgPath() != "" && strings.HasSuffix(v.Type().PkgPath(), "/policy") && v.Kind() == reflect.Struct && v.Type().Name() == "Date" {
		return // has no exported field
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			leaves(v.Elem(), path, visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if path != "" && !v.Type().Field(i).Anonymous {
				name = path + "." + name
			} else if v.Type().Field(i).Anonymous {
				name = path
			}
			leaves(v.Field(i), name, visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			leaves(v.Index(i), fmt.Sprintf("%s[%d]", path, i), visit)
		}
		if v.Len() > 0 {
			visit(path+" less", func() { v.Set(v.Slice(0, v.Len()-1)) })
		}
	case reflect.Map:
		visit(path+" more", func() {
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			value := reflect.New(v.Type().Elem()).Elem()
			if value.Kind() == reflect.Int {
				value.SetInt(7)
			}
			v.SetMapIndex(reflect.ValueOf("another").Convert(v.Type().Key()), value)
		})
	case reflect.String:
		visit(path, func() { v.SetString(v.String() + "x") })
	case reflect.Bool:
		visit(path, func() { v.SetBool(!v.Bool()) })
	case reflect.Int, reflect.Int64:
		visit(path, func() { v.SetInt(v.Int() + 1) })
	case reflect.Float64:
		visit(path, func() { v.SetFloat(v.Float() + 1) })
	}
}

func BenchmarkCompare(b *testing.B) {
	s := newScene()
	for i := range 20000 {
		s.tokens(s.instance(fmt.Sprintf("i-%05d", i), "", nil))
	}
	p, err := s.build(b)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !plan.Compare(p, p).Equal() {
			b.Fatal("it differs")
		}
	}
}
