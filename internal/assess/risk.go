package assess

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// RiskLevel is how much is at stake where a program on a host can be made to read the metadata service, in one word.
type RiskLevel string

// Risk levels.
const (
	RiskCritical RiskLevel = "critical"
	RiskHigh     RiskLevel = "high"
	RiskMedium   RiskLevel = "medium"
	RiskLow      RiskLevel = "low"
	// RiskUnknown: something could not be read that could make it more than it seems.
	RiskUnknown RiskLevel = "unknown"
)

// RiskLevels lists all levels, the worst first. What is unknown comes before what is known to be low or medium: it may be worse.
func RiskLevels() []RiskLevel {
	return []RiskLevel{RiskCritical, RiskHigh, RiskUnknown, RiskMedium, RiskLow}
}

// Rank orders levels by the urgency of work: 0 for the most urgent. A level that is none comes last.
func (l RiskLevel) Rank() int {
	if i := slices.Index(RiskLevels(), l); i >= 0 {
		return i
	}
	return len(RiskLevels())
}

// Weights of the parts, which add up to 100 at most, and the least scores of the levels. docs/risk.md explains them.
const (
	pointsAdmin      = 35
	pointsEscalation = 30
	pointsData       = 15
	pointsNarrow     = 5
	pointsV1         = 30
	pointsOpen       = 20 // a public address behind a security group that lets everyone in
	pointsAddress    = 5  // a public address alone
	pointsBalancer   = 10
	pointsHops       = 5

	leastCritical = 75
	leastHigh     = 55
	leastMedium   = 35
)

// RiskCode names the rule behind a part of a risk, for filters and tests.
type RiskCode string

// Codes of parts.
const (
	RiskRole     RiskCode = "role"
	RiskNoRole   RiskCode = "no-role"
	RiskV1       RiskCode = "imdsv1"
	RiskExposure RiskCode = "exposure"
	RiskBalancer RiskCode = "load-balancer"
	RiskHops     RiskCode = "hop-limit"
	// RiskUnread: a part that could not be read; Most says how many points it could add.
	RiskUnread RiskCode = "unread"
)

// Risk is how much is at stake on a host, or on what a launcher launches. Level follows from Score, which is the sum of the parts.
type Risk struct {
	Level RiskLevel  `json:"level"`
	Score int        `json:"score"`
	Parts []RiskPart `json:"parts"`
	// Cap says why the level is not as high as the score; empty where it is what the score says.
	Cap string `json:"cap,omitempty"`
}

// RiskPart is one reason, with the points that it counts.
type RiskPart struct {
	Points int      `json:"points"`
	Code   RiskCode `json:"code"`
	Text   string   `json:"text"`
	// From is the resource that says so.
	From fleet.Ref `json:"from,omitzero"`
	// Most is, of a part that could not be read, how many points it could add.
	Most int `json:"most,omitempty"`
}

// Compare orders risks by the urgency of work, the worst first; nil comes last.
func (r *Risk) Compare(o *Risk) int {
	switch {
	case r == nil && o == nil:
		return 0
	case r == nil:
		return 1
	case o == nil:
		return -1
	}
	return cmp.Or(cmp.Compare(r.Level.Rank(), o.Level.Rank()), cmp.Compare(o.Score, r.Score))
}

// RoleBook finds the roles of an account by the instance profiles that hold them.
type RoleBook struct {
	byProfile map[string]*inventory.Resource
	// unread says why the roles are not known, or not all; empty where they are.
	unread string
}

// NewRoleBook indexes the roles of an account, from the snapshot of its global place; nil where there is none.
func NewRoleBook(global *inventory.Snapshot) *RoleBook {
	b := &RoleBook{byProfile: map[string]*inventory.Resource{}, unread: "the account's roles were not read: scan again"}
	if global == nil {
		return b
	}
	for i := range global.Resources {
		r := &global.Resources[i]
		if r.Ref.Kind != inventory.KindRole {
			continue
		}
		for profile := range strings.SplitSeq(r.Attrs[inventory.AttrProfiles], ",") {
			if profile != "" {
				b.byProfile[profile] = r
			}
		}
	}
	if gap, ok := global.Gap(inventory.KindRole); ok {
		b.unread = fmt.Sprintf("the account's roles could not be read (%s): %s", gap.Class, gap.Detail)
	} else if slices.ContainsFunc(global.Scopes, func(s inventory.Scope) bool {
		return s.Kind == inventory.KindRole && s.Status == inventory.ScopeComplete
	}) {
		b.unread = ""
	}
	return b
}

// of finds the role in an instance profile, by the profile's ARN or name; why says why it is not known.
func (b *RoleBook) of(profile string) (role *inventory.Resource, why string) {
	if b == nil {
		return nil, "the account's roles were not read"
	}
	name := profile[strings.LastIndexByte(profile, '/')+1:]
	if role = b.byProfile[name]; role != nil {
		return role, ""
	}
	return nil, cmp.Or(b.unread, "no role is in the instance profile "+name)
}

// risks fills in the risk of hosts and of launchers.
func (j *judge) risks() {
	e := j.exposure()
	var launchers []*inventory.Resource
	for i := range j.in.Snapshot.Resources {
		r := &j.in.Snapshot.Resources[i]
		v := j.report.verdicts[r.Ref]
		switch role := j.in.Manners[r.Ref.Kind].Role; {
		case v == nil:
		case role == RoleHost:
			v.Risk = j.hostRisk(r, v, e)
		case role == RoleLauncher:
			launchers = append(launchers, r)
		}
	}
	for _, r := range launchers {
		v := j.report.verdicts[r.Ref]
		v.Risk = j.launcherRisk(r, v)
	}
}

// hostRisk adds up what is known of a host.
func (j *judge) hostRisk(r *inventory.Resource, v *Verdict, e *exposure) *Risk {
	out := &Risk{}
	o := r.Options()
	if o.Endpoint == fleet.Disabled {
		out.add(0, RiskV1, r.Ref, "its metadata endpoint is off")
		out.Level, out.Cap = RiskLow, ""
		return out
	}
	j.role(out, r)
	out.imds(r.Ref, o.Tokens)
	e.judge(out, r)
	if v.Hops.High() {
		out.add(pointsHops, RiskHops, r.Ref, "its hop limit is %d and %d is enough: %s", v.Hops.Now, v.Hops.Needed, v.Hops.Why)
	}
	out.conclude(o.Tokens == fleet.TokensRequired)
	return out
}

// launcherRisk is that of the worst host that it started and that still is there, or of its next launch where that answers IMDSv1
// and the host does not.
func (j *judge) launcherRisk(r *inventory.Resource, v *Verdict) *Risk {
	var worst *Risk
	var from *inventory.Resource
	for _, h := range j.index.Hosts(r.Ref) {
		hv := j.report.verdicts[h.Ref]
		if hv != nil && hv.Risk != nil && (worst == nil || hv.Risk.Compare(worst) < 0) {
			worst, from = hv.Risk, h
		}
	}
	if worst == nil {
		out := &Risk{}
		if r.Attrs[inventory.AttrProfile] != "" {
			j.role(out, r)
		} else {
			out.unread(pointsAdmin, "nothing that it started is there, so that no role was seen")
		}
		out.imds(r.Ref, v.Effective.Tokens)
		out.unread(pointsOpen+pointsBalancer, "nothing that it started is there, so that no address was seen")
		out.conclude(v.Effective.Tokens == fleet.TokensRequired)
		return out
	}
	out := &Risk{Parts: slices.Clone(worst.Parts), Score: worst.Score}
	closed := from.Options().Tokens == fleet.TokensRequired || from.Options().Endpoint == fleet.Disabled
	if closed && v.Effective.Endpoint != fleet.Disabled && v.Effective.Tokens != fleet.TokensRequired {
		out.Parts = slices.DeleteFunc(out.Parts, func(p RiskPart) bool { return p.Code == RiskV1 })
		out.imds(r.Ref, v.Effective.Tokens)
		closed = false
	}
	out.conclude(closed)
	return out
}

func (r *Risk) add(points int, code RiskCode, from fleet.Ref, format string, args ...any) {
	r.Score += points
	r.Parts = append(r.Parts, RiskPart{Points: points, Code: code, Text: fmt.Sprintf(format, args...), From: from})
}

// unread notes what is not known, with the points that it could add.
func (r *Risk) unread(most int, format string, args ...any) {
	r.Parts = append(r.Parts, RiskPart{Code: RiskUnread, Text: fmt.Sprintf(format, args...), Most: most})
}

// imds adds whether IMDSv1 is answered.
func (r *Risk) imds(from fleet.Ref, tokens string) {
	switch tokens {
	case fleet.TokensRequired:
		r.add(0, RiskV1, from, "IMDSv1 is refused: a request that an attacker only forwards gets no credentials")
	case "":
		r.unread(pointsV1, "nobody says whether IMDSv1 is answered")
	default:
		r.add(pointsV1, RiskV1, from, "IMDSv1 is answered: a request that an attacker only forwards gets the credentials")
	}
}

// conclude finds the level. What is unread counts as nothing and as the most that it could add; where that makes a difference, the
// level is unknown, unless it is high without it already.
func (r *Risk) conclude(closed bool) {
	most := r.Score
	for _, p := range r.Parts {
		most += p.Most
	}
	least, worst := levelOf(r.Score), levelOf(most)
	limit := func(level RiskLevel, why string) {
		if level.severity() < least.severity() {
			least, r.Cap = level, why
		}
		if level.severity() < worst.severity() {
			worst = level
		}
	}
	switch {
	case slices.ContainsFunc(r.Parts, func(p RiskPart) bool { return p.Code == RiskNoRole }):
		limit(RiskLow, "without a role there are no credentials to steal")
	case closed:
		limit(RiskMedium, "what refuses IMDSv1 is never above medium")
	}
	r.Level = least
	if least != worst && least.severity() < RiskHigh.severity() {
		r.Level = RiskUnknown
	}
	slices.SortStableFunc(r.Parts, func(a, b RiskPart) int {
		return cmp.Or(cmp.Compare(b.Points, a.Points), cmp.Compare(b.Most, a.Most))
	})
}

func levelOf(score int) RiskLevel {
	switch {
	case score >= leastCritical:
		return RiskCritical
	case score >= leastHigh:
		return RiskHigh
	case score >= leastMedium:
		return RiskMedium
	}
	return RiskLow
}

// severity orders the known levels, 0 for low.
func (l RiskLevel) severity() int {
	return slices.Index([]RiskLevel{RiskLow, RiskMedium, RiskHigh, RiskCritical}, l)
}

// role adds what the role of a host may do.
func (j *judge) role(out *Risk, r *inventory.Resource) {
	profile := r.Attrs[inventory.AttrProfile]
	switch {
	case profile == "" && r.Ref.Kind == inventory.KindInstance:
		out.add(0, RiskNoRole, r.Ref, "it has no instance profile")
		return
	case profile == "" && r.Ref.Kind == inventory.KindLightsail:
		out.add(0, RiskNoRole, r.Ref, "Lightsail gives it no role of the account")
		return
	case profile == "":
		out.unread(pointsAdmin, "which role a %s has is not read", r.Ref.Kind)
		return
	}
	role, why := j.in.Roles.of(profile)
	if role == nil {
		out.unread(pointsAdmin, "what its role may do is not known: %s", why)
		return
	}
	var points int
	var text string
	switch a := role.Attrs; a[inventory.AttrAccess] {
	case "admin":
		points, text = pointsAdmin, "administers the account: "+a[inventory.AttrAccessAdmin]
	case "escalation":
		points, text = pointsEscalation, "can give itself more: "+a[inventory.AttrAccessEscalation]
	case "data":
		points, text = pointsData, "reaches all of some data: "+a[inventory.AttrAccessData]
	case "narrow":
		points, text = pointsNarrow, "is narrow"
		if some := a[inventory.AttrAccessNarrowed]; some != "" {
			text += ", but may in part: " + some
		}
	default:
		out.unread(pointsAdmin, "what its role %s may do is not known", role.Ref.ID)
		return
	}
	out.add(points, RiskRole, role.Ref, "its role %s %s", role.Ref.ID, text)
	if unread := role.Attrs[inventory.AttrAccessUnread]; unread != "" && points < pointsAdmin {
		out.unread(pointsAdmin-points, "policies of its role %s could not be read: %s", role.Ref.ID, unread)
	}
}

// exposure is how the internet reaches the hosts of a place.
type exposure struct {
	// open are the security groups that let everyone in.
	open map[string]*inventory.Resource
	// balancers are those that forward to an instance or to an address, by either.
	balancers map[string][]*inventory.Resource
	// groupsUnread and balancersUnread say why these are not known; empty where they are.
	groupsUnread, balancersUnread string
}

func (j *judge) exposure() *exposure {
	e := &exposure{open: map[string]*inventory.Resource{}, balancers: map[string][]*inventory.Resource{},
		groupsUnread: j.notRead(inventory.KindSecurityGroup), balancersUnread: j.notRead(inventory.KindLoadBalancer)}
	for i := range j.in.Snapshot.Resources {
		switch r := &j.in.Snapshot.Resources[i]; r.Ref.Kind {
		case inventory.KindSecurityGroup:
			if r.Attrs[inventory.AttrOpen] != "" {
				e.open[r.Ref.ID] = r
			}
		case inventory.KindLoadBalancer:
			for _, l := range r.Links {
				if l.Relation == inventory.Fronts {
					e.balancers[l.To.ID] = append(e.balancers[l.To.ID], r)
				}
			}
			for ip := range strings.SplitSeq(r.Attrs[inventory.AttrTargetIPs], ",") {
				if ip != "" {
					e.balancers[ip] = append(e.balancers[ip], r)
				}
			}
		}
	}
	return e
}

// notRead says why a kind is not known; "" where it is.
func (j *judge) notRead(kind string) string {
	if gap, ok := j.in.Snapshot.Gap(kind); ok {
		return fmt.Sprintf("%s could not be read (%s): %s", kind, gap.Class, gap.Detail)
	}
	if !slices.ContainsFunc(j.in.Snapshot.Scopes, func(s inventory.Scope) bool {
		return s.Kind == kind && (s.Status == inventory.ScopeComplete || s.Status == inventory.ScopeNotOffered)
	}) {
		return kind + " was not read: scan again"
	}
	return ""
}

// judge adds how a host is reached: by its own address, and through load balancers.
func (e *exposure) judge(out *Risk, r *inventory.Resource) {
	address := cmp.Or(r.Attrs[inventory.AttrPublicIP], r.Attrs[inventory.AttrIPv6])
	group := e.opened(r)
	switch {
	case address == "":
	case group != nil:
		out.add(pointsOpen, RiskExposure, group.Ref, "everyone reaches its address %s: security group %s lets in %s", address, group.Ref.ID,
			group.Attrs[inventory.AttrOpen])
	case r.Ref.Kind == inventory.KindLightsail:
		out.add(pointsAddress, RiskExposure, r.Ref, "it has the public address %s; its firewall is not read", address)
	default:
		out.add(pointsAddress, RiskExposure, r.Ref, "it has the public address %s", address)
		if e.groupsUnread != "" {
			out.unread(pointsOpen-pointsAddress, "whether everyone reaches that address is not known: %s", e.groupsUnread)
		}
	}
	if b, sure := e.before(r); b != nil && sure {
		out.add(pointsBalancer, RiskBalancer, b.Ref, "the internet reaches it through the load balancer %s", b.Name)
	} else if b != nil {
		out.unread(pointsBalancer, "whether everyone reaches the load balancer %s before it is not known: %s", b.Name, e.groupsUnread)
	} else if e.balancersUnread != "" && r.Ref.Kind == inventory.KindInstance {
		out.unread(pointsBalancer, "whether a load balancer forwards to it is not known: %s", e.balancersUnread)
	}
}

// opened gives the first security group of a host or load balancer that lets everyone in; nil where none does.
func (e *exposure) opened(r *inventory.Resource) *inventory.Resource {
	for id := range strings.SplitSeq(r.Attrs[inventory.AttrSecurityGroups], ",") {
		if g := e.open[id]; g != nil {
			return g
		}
	}
	return nil
}

// before gives a load balancer through which everyone reaches a host, or, not sure of that, one whose security groups are not
// known. One whose security groups are all known to be closed to the internet does not count.
func (e *exposure) before(r *inventory.Resource) (found *inventory.Resource, sure bool) {
	keys := append([]string{r.Ref.ID}, strings.Split(r.Attrs[inventory.AttrPrivateIPs], ",")...)
	for _, key := range keys {
		for _, b := range e.balancers[key] {
			if b.Attrs[inventory.AttrSecurityGroups] == "" || e.opened(b) != nil {
				return b, true
			}
			if e.groupsUnread != "" && found == nil {
				found = b
			}
		}
	}
	return found, false
}
