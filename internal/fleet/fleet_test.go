package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRefRoundTrip(t *testing.T) {
	for _, r := range []Ref{
		{Place{"aws", "111122223333", "eu-west-1"}, "ec2-instance", "i-0abc"},
		{Place{"aws-cn", "000000000001", "cn-north-1"}, "launch-template", "lt-1"},
		{Place{"aws-us-gov", "111122223333", ""}, "organization-policy", "p-1"},
		{Place{"aws", "111122223333", "us-east-1"}, "image-builder", "arn:aws:imagebuilder:us-east-1:111122223333:infrastructure-configuration/x/y"},
	} {
		got, err := ParseRef(r.String())
		if err != nil || got != r {
			t.Errorf("%s: got %v, %v", r, got, err)
		}
		b, err := json.Marshal(map[string]Ref{"ref": r})
		if err != nil {
			t.Fatal(err)
		}
		var back map[string]Ref
		if err := json.Unmarshal(b, &back); err != nil || back["ref"] != r {
			t.Errorf("%s: %v, %v", b, back, err)
		}
	}
	for _, bad := range []string{"", "aws", "aws/1/eu-west-1/k/i", "aws/111122223333/eu-west-1/k", "aws/111122223333/eu-west-1/k/", "/111122223333/r/k/i", "aws/11112222333x/r/k/i"} {
		if r, err := ParseRef(bad); err == nil {
			t.Errorf("ParseRef(%q) = %v", bad, r)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add("aws/111122223333/eu-west-1/ec2-instance/i-0abc")
	f.Add("aws/111122223333/global/organization-policy/p-1/x")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			return
		}
		again, err := ParseRef(r.String())
		if err != nil || again != r {
			t.Fatalf("%q: %v reads back as %v, %v", s, r, again, err)
		}
	})
}

func TestPartitionOf(t *testing.T) {
	for region, want := range map[Region]Partition{"eu-west-1": PartitionAWS, "cn-north-1": PartitionChina, "us-gov-east-1": PartitionGov, "us-east-1": PartitionAWS} {
		if got := PartitionOf(region); got != want {
			t.Errorf("%s: %s, want %s", region, got, want)
		}
		if PartitionOf(want.HomeRegion()) != want {
			t.Errorf("the home region of %s is in another partition", want)
		}
	}
}

// Absent differs from every value, and a patch there and back leaves no trace.
func TestStatePatches(t *testing.T) {
	gen := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.SampledFrom([]string{"", "1", "2"}))
	rapid.Check(t, func(t *rapid.T) {
		before, after := State(gen.Draw(t, "before")), State(gen.Draw(t, "after"))
		diff := Diff(before, after)
		if (len(diff) == 0) != before.Equal(after) || before.Equal(after) != (before.Hash() == after.Hash()) {
			t.Fatalf("%v and %v: diff %v", before, after, diff)
		}
		patch, back := State{}, State{}
		for _, c := range diff {
			patch[c.Field], back[c.Field] = c.After, c.Before
			if !c.HasAfter {
				patch[c.Field] = Absent
			}
			if !c.HadBefore {
				back[c.Field] = Absent
			}
		}
		if got := before.With(patch); !got.Equal(after) || !got.With(back).Equal(before) {
			t.Fatalf("%v with %v is %v, want %v", before, patch, got, after)
		}
	})
	if got := DescribeDiff(State{"a": "1"}, State{"b": ""}); got != "a: 1 → (unset); b: (unset) → " {
		t.Errorf("diff for people: %q", got)
	}
}

func TestOptions(t *testing.T) {
	o := Options{Tokens: "required", HopLimit: 2}
	if got := o.State().Options(); got != o {
		t.Errorf("round trip: %+v", got)
	}
	if got := (State{FieldTokens: NoPreference, FieldHopLimit: "-1"}).Options(); got != (Options{}) {
		t.Errorf("no preference reads as unset, got %+v", got)
	}
	got := o.Over(Options{Tokens: "optional", Endpoint: "enabled", HopLimit: 1, Tags: "enabled"})
	if got != (Options{Tokens: "required", Endpoint: "enabled", HopLimit: 2, Tags: "enabled"}) {
		t.Errorf("over: %+v", got)
	}
	for n, ok := range map[int]bool{0: false, 1: true, 64: true, 65: false, -1: false} {
		if (ValidHopLimit(n) == nil) != ok {
			t.Errorf("hop limit %d", n)
		}
	}
}

func TestErrorsKeepTheirClass(t *testing.T) {
	err := fmt.Errorf("scan: %w", &CallError{Class: ErrDenied, Place: Place{"aws", "111122223333", "eu-west-1"}, Action: "ec2:DescribeInstances", RequestID: "r-1", Err: errors.New("no")})
	if ClassOf(err) != ErrDenied || ClassOf(nil) != "" || ClassOf(errors.New("x")) != ErrOther {
		t.Error("class lost")
	}
	for _, part := range []string{"ec2:DescribeInstances", "aws/111122223333/eu-west-1", "r-1", "no"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
	d := Diagnostic{Severity: SeverityError, Where: "f.yaml:1:2", Summary: "wrong", Remedy: "Mend it."}
	if d.Error() != "f.yaml:1:2: wrong\n  → Mend it." {
		t.Errorf("%q", d.Error())
	}
}
