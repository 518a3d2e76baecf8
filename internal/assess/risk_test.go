package assess_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// stake is a place with one instance, i-1, and what its risk rests on.
type stake struct {
	tokens, endpoint, hops string
	attrs                  map[string]string
	access                 map[string]string // of the role in the profile web; nil for no role
	others                 []inventory.Resource
	gaps                   []string // kinds that were denied
	noScan                 bool     // the kinds that tell of risk were never looked for
}

func refTo(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }

func openGroup(id, open string) inventory.Resource {
	return inventory.Resource{Ref: refTo(inventory.KindSecurityGroup, id), Attrs: map[string]string{inventory.AttrOpen: open}}
}

func balancer(name, groups string, to ...string) inventory.Resource {
	r := inventory.Resource{Ref: refTo(inventory.KindLoadBalancer, "app/"+name+"/1"), Name: name,
		Attrs: map[string]string{inventory.AttrSecurityGroups: groups}}
	for _, id := range to {
		if strings.HasPrefix(id, "i-") {
			r.Links = append(r.Links, inventory.Link{Relation: inventory.Fronts, To: refTo(inventory.KindInstance, id)})
		} else {
			r.Attrs[inventory.AttrTargetIPs] = id
		}
	}
	return r
}

func (s stake) input() assess.Input {
	host := inventory.Resource{Ref: refTo(inventory.KindInstance, "i-1"), Status: inventory.StatusRunning, Attrs: s.attrs,
		State: fleet.State{fleet.FieldEndpoint: "enabled", fleet.FieldTokens: "optional", fleet.FieldHopLimit: "1"}}
	for field, value := range map[string]string{fleet.FieldTokens: s.tokens, fleet.FieldEndpoint: s.endpoint, fleet.FieldHopLimit: s.hops} {
		if value != "" {
			host.State[field] = value
		}
	}
	snap := &inventory.Snapshot{Place: place, Resources: append([]inventory.Resource{host}, s.others...)}
	global := &inventory.Snapshot{Place: fleet.Place{Partition: place.Partition, Account: place.Account}}
	if s.access != nil {
		global.Resources = []inventory.Resource{{Ref: fleet.Ref{Place: global.Place, Kind: inventory.KindRole, ID: "web-role"},
			Attrs: s.access}}
	}
	for _, kind := range []string{inventory.KindInstance, inventory.KindSecurityGroup, inventory.KindLoadBalancer, inventory.KindRole} {
		sc := inventory.Scope{Kind: kind, Status: inventory.ScopeComplete}
		if slices.Contains(s.gaps, kind) {
			sc.Status, sc.Class, sc.Detail = inventory.ScopeGap, fleet.ErrDenied, "not allowed"
		}
		switch {
		case s.noScan && kind != inventory.KindInstance:
		case kind == inventory.KindRole:
			global.Scopes = append(global.Scopes, sc)
		default:
			snap.Scopes = append(snap.Scopes, sc)
		}
	}
	return assess.Input{Snapshot: snap, Manners: manners(), Policy: policy.Default(), Roles: assess.NewRoleBook(global)}
}

func (s stake) risk() *assess.Risk {
	return assess.Place(s.input()).Verdict(refTo(inventory.KindInstance, "i-1")).Risk
}

// may is a role in the profile web that may do something.
func may(level string, more ...string) map[string]string {
	out := map[string]string{inventory.AttrProfiles: "old,web", inventory.AttrAccess: level}
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

// with are the attributes of an instance with the profile web.
func with(more ...string) map[string]string {
	out := map[string]string{inventory.AttrProfile: "arn:aws:iam::111122223333:instance-profile/app/web"}
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

func TestRiskOfAHost(t *testing.T) {
	admin := may("admin", inventory.AttrAccessAdmin, "AdministratorAccess: #1")
	public := with(inventory.AttrPublicIP, "192.0.2.1", inventory.AttrSecurityGroups, "sg-1,sg-2")
	ssh := []inventory.Resource{openGroup("sg-2", "tcp 22")}
	for name, tt := range map[string]struct {
		stake
		level assess.RiskLevel
		score int
		says  string // within a part, or why the level is lower than the score
	}{
		"everything at once": {stake{hops: "2", attrs: public, access: admin, others: append(ssh, balancer("shop", "sg-2", "i-1"))},
			assess.RiskCritical, 100, "security group sg-2 lets in tcp 22"},
		"an administrator behind nothing":  {stake{attrs: with(), access: admin}, assess.RiskHigh, 65, "AdministratorAccess: #1"},
		"it can give itself more":          {stake{attrs: with(), access: may("escalation", inventory.AttrAccessEscalation, "iam:PassRole")}, assess.RiskHigh, 60, "iam:PassRole"},
		"data, and a load balancer":        {stake{attrs: with(), access: may("data"), others: []inventory.Resource{balancer("shop", "", "i-1")}}, assess.RiskHigh, 55, "load balancer shop"},
		"data, by address":                 {stake{attrs: with(inventory.AttrPrivateIPs, "10.0.0.7,10.0.0.9"), access: may("data"), others: []inventory.Resource{balancer("shop", "", "10.0.0.9")}}, assess.RiskHigh, 55, "load balancer shop"},
		"the balancer's groups are closed": {stake{attrs: with(), access: may("data"), others: []inventory.Resource{balancer("shop", "sg-9", "i-1")}}, assess.RiskMedium, 45, "reaches all of some data"},
		"another host's balancer":          {stake{attrs: with(), access: may("data"), others: []inventory.Resource{balancer("shop", "", "i-2")}}, assess.RiskMedium, 45, ""},
		"narrow":                           {stake{attrs: with(), access: may("narrow", inventory.AttrAccessNarrowed, "objects in S3: only logs/*")}, assess.RiskMedium, 35, "may in part: objects in S3"},
		"a public address, nothing open":   {stake{attrs: public, access: may("narrow")}, assess.RiskMedium, 40, "public address 192.0.2.1"},
		"IPv6":                             {stake{attrs: with(inventory.AttrIPv6, "2001:db8::1", inventory.AttrSecurityGroups, "sg-2"), access: may("narrow"), others: ssh}, assess.RiskHigh, 55, "2001:db8::1"},
		"an administrator without IMDSv1":  {stake{tokens: "required", attrs: public, access: admin, others: ssh}, assess.RiskMedium, 55, "never above medium"},
		"nothing to steal":                 {stake{attrs: map[string]string{inventory.AttrPublicIP: "192.0.2.1", inventory.AttrSecurityGroups: "sg-2"}, others: ssh}, assess.RiskLow, 50, "no credentials to steal"},
		"the endpoint is off":              {stake{endpoint: "disabled", attrs: public, access: admin, others: ssh}, assess.RiskLow, 0, "endpoint is off"},
		"a hop too many":                   {stake{hops: "3", attrs: with(), access: may("data")}, assess.RiskMedium, 50, "hop limit is 3 and 1 is enough"},
		"roles denied":                     {stake{attrs: with(), gaps: []string{inventory.KindRole}}, assess.RiskUnknown, 30, "could not be read (denied)"},
		"roles never looked for":           {stake{attrs: with(), noScan: true}, assess.RiskUnknown, 30, "were not read"},
		"an empty profile":                 {stake{attrs: with()}, assess.RiskUnknown, 30, "no role is in the instance profile web"},
		"a policy that could not be read":  {stake{attrs: with(), access: may("narrow", inventory.AttrAccessUnread, "custom: gone")}, assess.RiskUnknown, 35, "custom: gone"},
		"groups denied":                    {stake{attrs: public, access: may("narrow"), gaps: []string{inventory.KindSecurityGroup}}, assess.RiskUnknown, 40, "whether everyone reaches that address"},
		"balancers denied":                 {stake{attrs: with(), access: may("data"), gaps: []string{inventory.KindLoadBalancer}}, assess.RiskUnknown, 45, "whether a load balancer forwards"},
		"groups denied, a balancer's": {stake{attrs: with(), access: may("data"), others: []inventory.Resource{balancer("shop", "sg-9", "i-1")},
			gaps: []string{inventory.KindSecurityGroup}}, assess.RiskUnknown, 45, "whether everyone reaches the load balancer shop"},
		"denied, and high already":          {stake{attrs: with(), access: admin, gaps: []string{inventory.KindLoadBalancer}}, assess.RiskHigh, 65, "up to"},
		"denied, and nothing to steal":      {stake{attrs: map[string]string{inventory.AttrPublicIP: "192.0.2.1"}, gaps: []string{inventory.KindSecurityGroup, inventory.KindRole}}, assess.RiskLow, 35, ""},
		"roles denied, IMDSv1 refused":      {stake{tokens: "required", attrs: with(), gaps: []string{inventory.KindRole}}, assess.RiskUnknown, 0, ""},
		"an administrator, policies unread": {stake{attrs: with(), access: may("admin", inventory.AttrAccessUnread, "x")}, assess.RiskHigh, 65, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := tt.risk()
			if got.Level != tt.level || got.Score != tt.score {
				t.Errorf("%s, %d points, want %s, %d: %+v", got.Level, got.Score, tt.level, tt.score, got)
			}
			text, sum := got.Cap, 0
			for _, p := range got.Parts {
				text, sum = text+"\n"+p.Text, sum+p.Points
				if p.Most > 0 {
					text += " up to"
				}
			}
			if !strings.Contains(text, tt.says) || sum != got.Score {
				t.Errorf("parts of %d points say %q, want %q in it", sum, text, tt.says)
			}
		})
	}
}

// TestRiskOfALauncher: it is that of the worst host, and of the next launch where that answers IMDSv1 again.
func TestRiskOfALauncher(t *testing.T) {
	group := refTo(inventory.KindAutoScaling, "web")
	template := refTo(inventory.KindLaunchTemplate, "lt-1")
	in := func(tokens string, hosts int) assess.Input {
		s := stake{tokens: "required", attrs: with(), access: may("admin"), others: []inventory.Resource{
			{Ref: group, State: fleet.State{"LaunchTemplate.Version": "$Default"}, Links: []inventory.Link{
				{Relation: inventory.LaunchesFrom, To: template, Selector: inventory.SelectDefault, Field: "LaunchTemplate.Version"}}},
			{Ref: template, State: fleet.State{inventory.FieldDefaultVersion: "1", inventory.FieldLatestVersion: "1"},
				Launch: map[string]fleet.Options{"1": {Tokens: tokens, Endpoint: "enabled"}}},
		}}
		out := s.input()
		if hosts > 0 {
			out.Snapshot.Resources[0].Links = []inventory.Link{{Relation: inventory.MemberOf, To: group}}
		}
		return out
	}
	for name, tt := range map[string]struct {
		tokens string
		hosts  int
		level  assess.RiskLevel
		score  int
	}{
		"closed for good":              {"required", 1, assess.RiskMedium, 35},
		"the next launch opens IMDSv1": {"optional", 1, assess.RiskHigh, 65},
		"nothing of it runs":           {"optional", 0, assess.RiskUnknown, 30},
		"nothing runs, IMDSv1 refused": {"required", 0, assess.RiskUnknown, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := assess.Place(in(tt.tokens, tt.hosts)).Verdict(group).Risk
			if got == nil || got.Level != tt.level || got.Score != tt.score {
				t.Errorf("%+v, want %s, %d points", got, tt.level, tt.score)
			}
		})
	}
	if r := assess.Place(in("optional", 1)).Verdict(template).Risk; r != nil {
		t.Errorf("a template has a risk: %+v", r)
	}
}

// TestRiskNeverHides: whatever is known, to read less never makes the level lower than what is known without it and never turns
// what is unknown into low; and one thing more that is bad never lowers the score.
func TestRiskNeverHides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(name string, from ...string) string { return rapid.SampledFrom(from).Draw(t, name) }
		s := stake{tokens: pick("tokens", "optional", "required"), hops: pick("hops", "1", "2"), attrs: map[string]string{},
			access: may(pick("access", "admin", "escalation", "data", "narrow"))}
		if rapid.Bool().Draw(t, "profile") {
			s.attrs = with()
		}
		if rapid.Bool().Draw(t, "public") {
			s.attrs[inventory.AttrPublicIP], s.attrs[inventory.AttrSecurityGroups] = "192.0.2.1", "sg-1"
		}
		if rapid.Bool().Draw(t, "open") {
			s.others = append(s.others, openGroup("sg-1", "all"))
		}
		if rapid.Bool().Draw(t, "balancer") {
			s.others = append(s.others, balancer("shop", "", "i-1"))
		}
		whole := s.risk()
		worse := s
		worse.others = append(slices.Clone(s.others), openGroup("sg-1", "tcp 443"), balancer("second", "", "i-1"))
		if got := worse.risk(); got.Score < whole.Score || got.Compare(whole) > 0 {
			t.Errorf("with more exposure %+v, without %+v", got, whole)
		}
		// A denied read has nothing in it.
		kind := pick("denied", inventory.KindRole, inventory.KindSecurityGroup, inventory.KindLoadBalancer)
		less := s
		less.gaps = []string{kind}
		less.others = slices.DeleteFunc(slices.Clone(s.others), func(r inventory.Resource) bool { return r.Ref.Kind == kind })
		if kind == inventory.KindRole {
			less.access = nil
		}
		got := less.risk()
		known := map[assess.RiskLevel]int{assess.RiskLow: 0, assess.RiskMedium: 1, assess.RiskHigh: 2, assess.RiskCritical: 3}
		// A level that is said all the same is right, or, from high on, the least that it is.
		if got.Level != assess.RiskUnknown && got.Level != whole.Level &&
			(known[got.Level] < known[assess.RiskHigh] || known[got.Level] > known[whole.Level]) {
			t.Errorf("without %s it is %+v, with it %+v", kind, got, whole)
		}
	})
}

// TestBalancersAreInTheFootprint: of what faces the internet, only what has a running host behind it counts.
func TestBalancersAreInTheFootprint(t *testing.T) {
	s := stake{attrs: with(inventory.AttrPrivateIPs, "10.0.0.9"), access: may("narrow"), others: []inventory.Resource{
		balancer("shop", "", "i-1"), balancer("by-address", "", "10.0.0.9"), balancer("nobody", "", "i-2"), balancer("nowhere", "", "10.0.0.8"),
		balancer("bare", ""),
	}}
	f := &assess.Footprint{}
	f.Note(assess.Place(s.input()), 0)
	if f.Balancers != 2 {
		t.Errorf("%+v, want two load balancers", f)
	}
	without, within := assess.ProposeCriticality(policy.AccountFacts{}, &assess.Footprint{Running: 1, Places: 1}),
		assess.ProposeCriticality(policy.AccountFacts{}, &assess.Footprint{Running: 1, Places: 1, Balancers: 2})
	if within.Score != without.Score+15 || !strings.Contains(within.Parts[len(within.Parts)-1].Text, "load balancers that face the internet") {
		t.Errorf("%+v, without any %+v", within, without)
	}
}
