package cloudtrail

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/product"
)

func drawRecord(rt *rapid.T) Record {
	r := Record{
		Account: fleet.AccountID(rapid.SampledFrom([]string{"", "111122223333", "222233334444"}).Draw(rt, "account")),
		Role:    rapid.SampledFrom([]string{"", "app", "web"}).Draw(rt, "role"), Delivery: Delivery(rapid.IntRange(1, 2).Draw(rt, "delivery")),
		At:    noon.Add(time.Duration(rapid.IntRange(-100, 100).Draw(rt, "hours")) * time.Hour),
		Agent: fmt.Sprintf("agent/%d", rapid.IntRange(0, 8).Draw(rt, "agent")),
	}
	if r.Role == "" || rapid.Bool().Draw(rt, "host") {
		r.Instance = fmt.Sprintf("i-%08x", rapid.IntRange(0, 5).Draw(rt, "instance"))
	}
	return r
}

func all(t *Tally) []evidence.Finding {
	return slices.Collect(t.Findings(evidence.SourceCloudTrail, "x"))
}

// However records are divided among tallies, the whole is the same; and whatever the bounds, no call is lost and none moves to another
// day, delivery or account.
func TestTallyProperty(t *testing.T) {
	parse := func(agent string) (product.ID, string) { return "p", strings.TrimPrefix(agent, "agent/") }
	rapid.Check(t, func(rt *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(drawRecord), 0, 80).Draw(rt, "records")
		whole := NewTally(parse, Bounds{})
		parts := []*Tally{NewTally(parse, Bounds{}), NewTally(parse, Bounds{}), NewTally(parse, Bounds{})}
		tight := NewTally(parse, Bounds{Agents: rapid.IntRange(1, 4).Draw(rt, "agents"), AgentsEach: rapid.IntRange(1, 3).Draw(rt, "each"),
			Counts: rapid.IntRange(1, 10).Draw(rt, "counts")})
		for _, r := range records {
			whole.Add(r)
			parts[rapid.IntRange(0, 2).Draw(rt, "part")].Add(r)
			tight.Add(r)
		}
		merged := NewTally(parse, Bounds{})
		for _, p := range parts {
			merged.Merge(p)
		}
		if got, want := all(merged), all(whole); !slices.Equal(got, want) {
			rt.Fatalf("merged %v\nwhole %v", got, want)
		}
		for _, tally := range []*Tally{whole, tight} {
			byDay := map[string]int64{}
			for _, r := range records {
				byDay[fmt.Sprint(r.At.Format(time.DateOnly), r.Delivery, r.Account)]++
			}
			for _, f := range all(tally) {
				delivery := V1
				if f.What == evidence.WhatV2Credentials {
					delivery = V2
				}
				byDay[fmt.Sprint(f.First.Format(time.DateOnly), delivery, f.Subject.Account)] -= f.Count
				if f.Last.Before(f.First) || f.Last.Format(time.DateOnly) != f.First.Format(time.DateOnly) {
					rt.Fatalf("a finding of more than a day: %+v", f)
				}
				if err := f.Check(); err != nil {
					rt.Fatalf("%+v: %v", f, err)
				}
			}
			for day, n := range byDay {
				if n != 0 {
					rt.Fatalf("%s: %d calls are missing (or too many)", day, n)
				}
			}
			sum := tally.Summary()
			if sum.V1Calls+sum.V2Calls != int64(len(records)) || tally.Records() != int64(len(records)) {
				rt.Fatalf("%+v of %d", sum, len(records))
			}
		}
	})
}

func TestTheBoundsOfATally(t *testing.T) {
	many := NewTally(nil, Bounds{AgentsEach: 3})
	for n := range 10 {
		many.Add(Record{Account: "111122223333", Role: "app", Instance: host, Delivery: V1, At: noon, Agent: fmt.Sprintf("tool/%d", n)})
	}
	findings := all(many)
	if len(findings) != 4 || !slices.ContainsFunc(findings, func(f evidence.Finding) bool { return f.Detail == otherAgents && f.Count == 7 }) {
		t.Errorf("%v", findings)
	}
	if notes := many.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "7 calls") {
		t.Errorf("notes %v", notes)
	}
	few := NewTally(nil, Bounds{Counts: 2})
	for n := range 5 {
		few.Add(Record{Account: "111122223333", Role: "app", Instance: fmt.Sprintf("i-%08x", n), Delivery: V1, At: noon, Agent: "a"})
	}
	hosts, role := 0, int64(0)
	for _, f := range all(few) {
		if f.Subject.Kind == inventory.KindInstance {
			hosts++
		} else if f.Subject.ID == "app" {
			role += f.Count
		}
	}
	if hosts != 2 || role != 3 || len(few.Notes()) != 1 {
		t.Errorf("%d hosts, %d calls of the role, notes %v", hosts, role, few.Notes())
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"111122223333_CloudTrail_us-east-2_20150801T0210Z_Mu0KsOhtH1ar15ZZ.json.gz":                                                     true,
		"s3://b/AWSLogs/111122223333/CloudTrail/us-gov-west-1/2015/08/01/111122223333_CloudTrail_us-gov-west-1_20150801T0210Z_Mu0.json": true,
		"111122223333_CloudTrail-Digest_us-east-2_t_us-east-2_20150801T021000Z.json.gz":                                                 false,
		"111122223333_CloudTrail_us-east-2_20151301T0210Z_Mu0KsOhtH1ar15ZZ.json.gz":                                                     false,
		"events.json": false,
	} {
		if n, ok := ParseName(name); ok != want || ok && (n.Account != "111122223333" || n.Delivered.Hour() != 2) {
			t.Errorf("%s: %+v %v", name, n, ok)
		}
	}
	n, _ := ParseName("111122223333_CloudTrail_us-east-2_20150801T0210Z_Mu0KsOhtH1ar15ZZ.json.gz")
	for _, tc := range []struct {
		from, to string
		want     bool
	}{{"", "", true}, {"2015-08-01", "", true}, {"2015-08-02", "", false}, {"", "2015-08-01", true}, {"", "2015-07-31", false}} {
		var s Span
		s.From, _ = time.Parse(time.DateOnly, tc.from)
		s.To, _ = time.Parse(time.DateOnly, tc.to)
		if n.wanted(s) != tc.want {
			t.Errorf("from %q to %q: %v", tc.from, tc.to, !tc.want)
		}
	}
}

// Whatever a name is, reading it ends, and what it says can be.
func FuzzParseName(f *testing.F) {
	f.Add("111122223333_CloudTrail_us-east-2_20150801T0210Z_Mu0KsOhtH1ar15ZZ.json.gz")
	f.Fuzz(func(t *testing.T, name string) {
		if n, ok := ParseName(name); ok && (!n.Account.Valid() || n.Region == "" || n.Delivered.IsZero()) {
			t.Errorf("%q: %+v", name, n)
		}
	})
}
