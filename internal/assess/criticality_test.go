package assess

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

func TestProposeCriticality(t *testing.T) {
	some := Footprint{Running: 5, Places: 2}
	for name, tc := range map[string]struct {
		account policy.AccountFacts
		runs    Footprint
		want    policy.Criticality
		score   int
		says    string
	}{
		"nothing known":       {policy.AccountFacts{}, Footprint{}, policy.Medium, 0, ""},
		"a few hosts":         {policy.AccountFacts{Name: "acme"}, some, policy.Medium, 0, "5 hosts running"},
		"production":          {policy.AccountFacts{Name: "shop-prod"}, some, policy.High, 40, `says production: the name "shop-prod"`},
		"counted once":        {policy.AccountFacts{Name: "shop-prod", OUs: []string{"Workloads", "Prod"}}, some, policy.High, 40, `the unit "Prod"`},
		"camel case":          {policy.AccountFacts{Name: "ShopProd01"}, some, policy.High, 40, "says production"},
		"by tag":              {policy.AccountFacts{Name: "shop", Tags: map[string]string{"Environment": "live"}}, some, policy.High, 40, "the tag Environment=live"},
		"another tag":         {policy.AccountFacts{Name: "shop", Tags: map[string]string{"owner": "prod"}}, some, policy.Medium, 0, ""},
		"not production":      {policy.AccountFacts{Name: "shop-non-prod"}, some, policy.Low, -25, "says that it is for tests"},
		"before production":   {policy.AccountFacts{Name: "preprod2"}, some, policy.Low, -25, "says that it is for tests"},
		"part of a word":      {policy.AccountFacts{Name: "product-deviation"}, some, policy.Medium, 0, ""},
		"sandbox":             {policy.AccountFacts{Name: "ann", OUs: []string{"Sandbox"}}, some, policy.Low, -40, "nothing in it matters"},
		"large sandbox":       {policy.AccountFacts{OUs: []string{"Sandbox"}}, Footprint{Running: 2000, Public: 20, Places: 1}, policy.Medium, 5, "2,000 hosts running"},
		"unread sandbox":      {policy.AccountFacts{Name: "sandbox"}, Footprint{Running: 1, Places: 1, Gaps: 2}, policy.Medium, -40, ""},
		"never read sandbox":  {policy.AccountFacts{Name: "sandbox"}, Footprint{}, policy.Medium, -40, ""},
		"empty production":    {policy.AccountFacts{Name: "prod"}, Footprint{Places: 3}, policy.High, 25, "nothing was seen running"},
		"contradiction":       {policy.AccountFacts{Name: "prod-test"}, some, policy.Medium, 15, "says that it is for tests"},
		"others depend on it": {policy.AccountFacts{Name: "network"}, Footprint{Running: 12, Places: 1}, policy.High, 30, "others depend"},
		"large and public": {policy.AccountFacts{}, Footprint{Running: 150, Public: 12, Groups: 11, Clusters: 3, Callers: 75, Places: 1}, policy.Critical, 70,
			"75 of 150 running hosts are of a lineage that calls IMDSv1"},
		"production that works": {policy.AccountFacts{Name: "prod"}, Footprint{Running: 150, Public: 1, Places: 1}, policy.Critical, 70, "1 with a public address"},
		"a tenth calls":         {policy.AccountFacts{}, Footprint{Running: 50, Callers: 5, Places: 1}, policy.Medium, 20, "5 of 50"},
		"hardly one calls":      {policy.AccountFacts{}, Footprint{Running: 50, Callers: 1, Places: 1}, policy.Medium, 15, "1 of 50"},
	} {
		got := ProposeCriticality(tc.account, &tc.runs)
		var texts []string
		for _, p := range got.Parts {
			texts = append(texts, p.Text)
		}
		if got.Value != tc.want || got.Score != tc.score || !strings.Contains(strings.Join(texts, "\n"), tc.says) {
			t.Errorf("%s: %+v, want %s with %d", name, got, tc.want, tc.score)
		}
	}
}

// The parts add up to the score, a floor only lifts, and more of anything that runs never makes an account less critical.
func TestCriticalityAddsUp(t *testing.T) {
	count := rapid.SampledFrom([]int{0, 1, 9, 10, 99, 100, 5000})
	name := rapid.SampledFrom([]string{"", "prod", "shop-dev", "sandbox", "network", "nonprod", "x"})
	rapid.Check(t, func(t *rapid.T) {
		a := policy.AccountFacts{Name: name.Draw(t, "name"), OUs: []string{name.Draw(t, "unit")}}
		f := Footprint{Places: 1, Running: count.Draw(t, "running"), Public: count.Draw(t, "public"), Groups: count.Draw(t, "groups"),
			Clusters: count.Draw(t, "clusters"), Gaps: count.Draw(t, "gaps")}
		p := ProposeCriticality(a, &f)
		sum := 0
		for _, part := range p.Parts {
			sum += part.Points
		}
		if sum != p.Score || p.Value.Rank() < 0 {
			t.Fatalf("%+v: the parts add up to %d", p, sum)
		}
		more := f
		switch rapid.IntRange(0, 3).Draw(t, "more of") {
		case 0:
			more.Running++
		case 1:
			more.Public++
		case 2:
			more.Groups++
		case 3:
			more.Gaps++
		}
		if q := ProposeCriticality(a, &more); q.Value.Rank() < p.Value.Rank() {
			t.Fatalf("%+v is %s, and with more, %+v, only %s", f, p.Value, more, q.Value)
		}
	})
}

func TestFootprint(t *testing.T) {
	place := fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}
	ref := func(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }
	optional := fleet.Options{Tokens: "optional", Endpoint: "enabled", HopLimit: 1}.State()
	snapshot := &inventory.Snapshot{Place: place, Resources: []inventory.Resource{
		{Ref: ref(inventory.KindInstance, "i-1"), Status: inventory.StatusRunning, State: optional, Attrs: map[string]string{inventory.AttrPublicIP: "192.0.2.1"}},
		{Ref: ref(inventory.KindInstance, "i-2"), Status: inventory.StatusRunning, State: optional, Tags: map[string]string{"kubernetes.io/cluster/prod": "owned"}},
		{Ref: ref(inventory.KindInstance, "i-3"), Status: inventory.StatusStopped, State: optional, Attrs: map[string]string{inventory.AttrPublicIP: "192.0.2.2"}},
		{Ref: ref(inventory.KindAutoScaling, "a"), State: fleet.State{}, Attrs: map[string]string{inventory.AttrDesired: "2"}},
		{Ref: ref(inventory.KindAutoScaling, "b"), State: fleet.State{}, Attrs: map[string]string{inventory.AttrDesired: "0"}},
		{Ref: ref(inventory.KindECSCapacity, "c"), State: fleet.State{}, Attrs: map[string]string{inventory.AttrCluster: "web"}},
	}}
	manners := map[string]Manner{inventory.KindInstance: {Role: RoleHost, Metric: true}, inventory.KindAutoScaling: {Role: RoleLauncher, Metric: true}}
	var f Footprint
	f.Note(Place(Input{Snapshot: snapshot, Manners: manners, Policy: policy.Default()}), 1)
	f.Note(Place(Input{Snapshot: &inventory.Snapshot{Place: place}, Manners: manners, Policy: policy.Default()}), 0)
	if f.Running != 2 || f.Public != 1 || f.Groups != 1 || f.Clusters != 2 || f.Gaps != 1 || f.Places != 2 || f.Callers != 0 {
		t.Errorf("%+v", f)
	}
}

func FuzzWordsOf(f *testing.F) {
	for _, s := range []string{"shop-prod", "ShopPROD1", "non-prod", "pre_prod", "", "ß-Ünit", "\xff", "123"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words := wordsOf(s)
		if slices.Contains(words, "") {
			t.Fatalf("an empty word in %q", words)
		}
		if strings.ToLower(s) == s && strings.IndexFunc(s, func(r rune) bool { return r < 'a' || r > 'z' }) < 0 && s != "" && !slices.Equal(words, []string{s}) {
			t.Fatalf("%q is %q", s, words)
		}
	})
}
