package scan_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/scan"
)

// shelf is a kind of which only what the account owns is listed; the rest is read where it is named.
type shelf struct {
	lister
	asked  []string
	hidden string
	fail   error
}

func (s *shelf) ReadReferenced(_ context.Context, ids []string, emit func(inventory.Resource) error) error {
	s.asked = append(s.asked, ids...)
	for _, id := range ids {
		if id == s.hidden {
			continue
		}
		place := s.resources[0].Ref.Place
		if err := emit(inventory.Resource{Ref: fleet.Ref{Place: place, Kind: inventory.KindImage, ID: id}}); err != nil {
			return err
		}
	}
	return s.fail
}

// versioned is a kind whose pinned version names an image of its own.
type versioned struct{ lister }

func (versioned) ReadVersions(context.Context, string, []string) (kind.Versions, error) {
	return kind.Versions{Launch: map[string]fleet.Options{"1": {}}, Attrs: map[string]string{inventory.AttrImage + "/1": "ami-pinned"}}, nil
}

// where puts a shelf into a place, first in the list, with everything that names images.
func where(p fleet.Place, s *shelf) scan.Place {
	ref := func(kindName, id string) fleet.Ref { return fleet.Ref{Place: p, Kind: kindName, ID: id} }
	image := func(id string) map[string]string { return map[string]string{inventory.AttrImage: id} }
	s.resources = []inventory.Resource{{Ref: ref(inventory.KindImage, "ami-own")}}
	return scan.Place{Kinds: []scan.Reader{
		{Kind: inventory.KindImage, Driver: s},
		{Kind: inventory.KindLaunchTemplate, Driver: &versioned{lister{resources: []inventory.Resource{{
			Ref: ref(inventory.KindLaunchTemplate, "lt-1"), Attrs: map[string]string{inventory.AttrImage + "/7": "ami-latest"},
		}}}}},
		{Kind: inventory.KindSpotFleet, Driver: &lister{resources: []inventory.Resource{{
			Ref: ref(inventory.KindSpotFleet, "sfr-1"), Attrs: map[string]string{inventory.AttrImage + "/1": "ami-inline"},
			Links: []inventory.Link{{Relation: inventory.LaunchesFrom, To: ref(inventory.KindLaunchTemplate, "lt-1"), Selector: "1"}},
		}}}},
		{Kind: inventory.KindInstance, Driver: &lister{resources: []inventory.Resource{
			{Ref: ref(inventory.KindInstance, "i-1"), Attrs: image("ami-own")},
			{Ref: ref(inventory.KindInstance, "i-2"), Attrs: image("ami-public")},
			{Ref: ref(inventory.KindInstance, "i-3"), Attrs: image("ami-public")},
			{Ref: ref(inventory.KindInstance, "i-4"), Attrs: image("ami-private")},
			{Ref: ref(inventory.KindInstance, "i-5")},
		}}},
	}}
}

// TestImagesOfOthers: what instances, templates, their pinned versions and fleets name is asked for once, after all of them
// were listed, and without what the account owns.
func TestImagesOfOthers(t *testing.T) {
	m, s := newMemory(), &shelf{hidden: "ami-private"}
	f := &accounts{ids: []fleet.AccountID{"111111111111"}, open: func(p fleet.Place) scan.Place {
		if p.Region != "eu-west-1" {
			return scan.Place{}
		}
		return where(p, s)
	}}
	mustRun(t, options(f, m))
	want := []string{"ami-inline", "ami-latest", "ami-pinned", "ami-private", "ami-public"}
	if !slices.Equal(s.asked, want) {
		t.Errorf("asked for %q, not %q", s.asked, want)
	}
	var images []string
	for ref := range maps.Keys(m.resources) {
		if ref.Kind == inventory.KindImage {
			images = append(images, ref.ID)
		}
	}
	slices.Sort(images)
	if !slices.Equal(images, []string{"ami-inline", "ami-latest", "ami-own", "ami-pinned", "ami-public"}) {
		t.Errorf("stored %q", images)
	}
	sc := m.scopes["aws/111111111111/eu-west-1 "+inventory.KindImage]
	if sc.Status != inventory.ScopeComplete || sc.Resources != 5 {
		t.Errorf("scope %+v", sc)
	}
}

// TestImagesOfOthersThatCannotBeRead: the kind is a gap, and what was read before is kept.
func TestImagesOfOthersThatCannotBeRead(t *testing.T) {
	m := newMemory()
	s := &shelf{fail: &fleet.CallError{Class: fleet.ErrDenied, Action: "ec2:DescribeImages",
		Err: errors.New("not authorized")}}
	f := &accounts{ids: []fleet.AccountID{"111111111111"}, open: func(p fleet.Place) scan.Place {
		if p.Region != "eu-west-1" {
			return scan.Place{}
		}
		return where(p, s)
	}}
	sum := mustRun(t, options(f, m))
	sc := m.scopes["aws/111111111111/eu-west-1 "+inventory.KindImage]
	if sc.Status != inventory.ScopeGap || sc.Class != fleet.ErrDenied || len(sum.Gaps) != 1 {
		t.Errorf("scope %+v, gaps %+v", sc, sum.Gaps)
	}
	for _, id := range []string{"ami-own", "ami-public"} {
		ref := fleet.Ref{Place: sc.Place, Kind: inventory.KindImage, ID: id}
		if _, ok := m.resources[ref]; !ok {
			t.Errorf("%s was read and is lost", id)
		}
	}
}
