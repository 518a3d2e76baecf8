// Package inventory is what was found: the resources of a fleet as one scan saw them, how they hang together, and — just
// as much a part of it — what could not be read.
//
// It owns the shape of a snapshot. It does not know how a resource is listed, stored or judged, and it reads no clock.
package inventory

import (
	"slices"
	"strconv"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Names of the kinds that other pure packages reason about. A kind's folder owns everything else about it.
const (
	KindInstance            = "ec2-instance"
	KindLaunchTemplate      = "launch-template"
	KindLaunchConfiguration = "launch-configuration"
	KindAutoScaling         = "auto-scaling-group"
	KindFleet               = "ec2-fleet"
	KindSpotFleet           = "spot-fleet"
	KindImage               = "ami"
	KindAccountDefaults     = "account-defaults"
	KindNodegroup           = "eks-nodegroup"
	KindECSCapacity         = "ecs-capacity"
	KindBatch               = "batch-environment"
	KindBeanstalk           = "beanstalk-environment"
	KindEMR                 = "emr-security-configuration"
	KindImageBuilder        = "image-builder"
	KindNotebook            = "sagemaker-notebook"
	KindLightsail           = "lightsail-instance"
	KindAppStream           = "appstream"
	KindWorkspace           = "workspaces-instance"
	KindOrganizationPolicy  = "organization-policy"
	KindRole                = "iam-role"
	KindSecurityGroup       = "security-group"
	KindLoadBalancer        = "load-balancer"
	KindSSMAgent            = "ssm-agent"
)

// Status is whether a resource that runs is running.
type Status string

// Statuses. A resource that does not run (a template, a group, a default) has none.
const (
	StatusRunning    Status = "running"
	StatusStopped    Status = "stopped" // stopping and hibernated included: it can start again
	StatusPending    Status = "pending"
	StatusTerminated Status = "terminated" // shutting-down included: it is evidence, never a target
)

// Resource is one resource as it was read.
type Resource struct {
	Ref  fleet.Ref `json:"ref"`
	Name string    `json:"name,omitempty"`
	// Status is empty for what does not run.
	Status Status `json:"status,omitempty"`
	// Launched is the last launch or start (EC2 moves LaunchTime at each start); zero where unknown.
	Launched time.Time `json:"launched,omitzero"`
	// State is the kind's own canonical document: what is compared before a write and restored by a rollback.
	State fleet.State `json:"state"`
	// Says are the metadata options in the state, as people compare them, for a kind whose API has words of its own for them
	// (SageMaker's minimum version, Beanstalk's DisableIMDSv1). Nil where the state has the canonical names: see Options.
	Says *fleet.Options `json:"says,omitempty"`
	// Launch holds what future launches are told, by selector: for a launch template each version that was read, by number.
	// It is immutable content, hence not part of State.
	Launch map[string]fleet.Options `json:"launch,omitempty"`
	Tags   map[string]string        `json:"tags,omitempty"`
	// Owner is who the resource itself names, by its tags or Operator; see Index.Owner.
	Owner fleet.Owner `json:"owner,omitzero"`
	// Claims are what infrastructure as code says of it, in order: the Terraform states and CloudFormation stacks that list it.
	Claims []fleet.Owner `json:"claims,omitempty"`
	Links  []Link        `json:"links,omitempty"`
	// Attrs describe and never decide a comparison: image, instance type, profile.
	Attrs map[string]string `json:"attrs,omitempty"`
	// Settling means that AWS has accepted a change of State and not finished it.
	Settling bool `json:"settling,omitempty"`
}

// Options are the metadata options that the resource itself says.
func (r *Resource) Options() fleet.Options {
	if r.Says != nil {
		return *r.Says
	}
	return r.State.Options()
}

// Attribute names.
const (
	// AttrImage is an AMI. Of a source with versions it is that of the default; AttrImage + "/" + number is a version's.
	// Of a launcher it replaces what its source names; AttrImage + "/" + Link.Field does so for that link alone, and
	// AttrImage + "/" + anything else is one that it launches beside: an override's, or a specification's.
	AttrImage        = "image"
	AttrInstanceType = "instance-type"
	AttrProfile      = "instance-profile" // ARN
	AttrManagedBy    = "managed-by"       // account defaults: "account" or "declarative-policy"
	AttrPlatform     = "platform"
	AttrPublicIP     = "public-ip"
	AttrDesired      = "desired-capacity"
	// AttrContainers is what runs containers on a host, where that is known: "ecs", "eks", "kubernetes", "batch", "docker".
	AttrContainers = "containers"
	// AttrNetworkModes are the network modes of the containers on a host, sorted and joined by commas: "awsvpc,bridge".
	AttrNetworkModes = "network-modes"
	// AttrCluster is the name of the cluster that a host, a group or a node group belongs to.
	AttrCluster = "cluster"
	// AttrImageOwner is the account or alias that owns an image; AttrCreated and AttrDeprecated are RFC 3339 times.
	AttrImageOwner = "image-owner"
	AttrCreated    = "created"
	AttrDeprecated = "deprecated"
	// AttrEnded is the day on which a terminated instance ended, YYYY-MM-DD, where that is known.
	AttrEnded = "ended"
	// AttrProductCodes are the AWS Marketplace product codes of an image, and of the instances launched from it, sorted and joined by
	// commas.
	AttrProductCodes = "product-codes"
	// AttrAgentVersion is the version of the SSM agent on a host.
	AttrAgentVersion = "agent-version"
	// AttrIPv6 and AttrPrivateIPs are addresses of a host, AttrSecurityGroups the ids of the security groups before it or a load
	// balancer, each sorted and joined by commas.
	AttrIPv6           = "ipv6"
	AttrPrivateIPs     = "private-ips"
	AttrSecurityGroups = "security-groups"
	// AttrOpen is what a security group lets in from everywhere, as "tcp 22, udp 1000-2000".
	AttrOpen = "open-to-everyone"
	// AttrAccess is what a role may do in one word of package access; AttrAccessUnread says what of its policies could not be
	// read, so that it may be more. The others say for people what that is, and which statements allow it.
	AttrAccess           = "access"
	AttrAccessUnread     = "access/unread"
	AttrAccessAdmin      = "access/admin"
	AttrAccessEscalation = "access/escalation"
	AttrAccessData       = "access/data"
	AttrAccessNarrowed   = "access/narrowed"
	// AttrProfiles are the names of the instance profiles that a role is in, sorted and joined by commas.
	AttrProfiles = "instance-profiles"
	// AttrTargetIPs are the addresses that a load balancer forwards to where it does so by address.
	AttrTargetIPs = "target-ips"
	// AttrRequestType is whether a fleet maintains its capacity ("maintain") or asks for it once ("request").
	AttrRequestType = "request-type"
)

// Relation names how one resource hangs on another.
type Relation string

// Relations.
const (
	// MemberOf: an instance belongs to a group.
	MemberOf Relation = "member-of"
	// LaunchedFrom: an instance was launched from a template; Selector is the version's number.
	LaunchedFrom Relation = "launched-from"
	// LaunchesFrom: a group or fleet will launch from a template; Selector is "$Default", "$Latest" or a number.
	LaunchesFrom Relation = "launches-from"
	// Operates: a service's resource makes, changes and ends another one, which must not be changed behind its back: an EKS
	// node group its Auto Scaling group, a Beanstalk environment its own. The other one's owner follows from it.
	Operates Relation = "operates"
	// Scales: a service decides how large a group is, and its people what it launches: an ECS capacity provider its group.
	Scales Relation = "scales"
	// RunsOn: something of a service lives on an instance that others own: an ECS container instance, say.
	RunsOn Relation = "runs-on"
	// Fronts: a load balancer that the internet reaches forwards to a host.
	Fronts Relation = "fronts"
)

// Selectors of a template version that move by themselves.
const (
	SelectDefault = "$Default"
	SelectLatest  = "$Latest"
)

// Link ties a resource to another.
type Link struct {
	Relation Relation  `json:"relation"`
	To       fleet.Ref `json:"to"`
	Selector string    `json:"selector,omitempty"`
	// Field names the field of this resource's State that holds the selector, so that a plan can pin a consumer without
	// knowing its kind. Empty where it cannot be written.
	Field string `json:"field,omitempty"`
	// Starts: writing the field is accepted at once and completed later (a change of class "start").
	Starts bool `json:"starts,omitempty"`
}

// Link gives the first link of the relation, if there is one.
func (r *Resource) Link(relation Relation) (Link, bool) {
	i := slices.IndexFunc(r.Links, func(l Link) bool { return l.Relation == relation })
	if i < 0 {
		return Link{}, false
	}
	return r.Links[i], true
}

// State fields of a launch template: its two moving pointers. Its versions are immutable and stand in Resource.Launch.
const (
	FieldDefaultVersion = "DefaultVersion"
	FieldLatestVersion  = "LatestVersion"
)

// ResolveVersion turns a selector into the version number that template would launch now; "" where it cannot be known, and
// for a source without versions, such as a launch configuration, whose one content stands in Launch under "".
func ResolveVersion(template *Resource, selector string) string {
	switch selector {
	case "", SelectDefault:
		return template.State[FieldDefaultVersion] // a launch configuration has none
	case SelectLatest:
		return template.State[FieldLatestVersion]
	}
	if _, err := strconv.ParseInt(selector, 10, 64); err != nil {
		return ""
	}
	return selector
}

// ScopeStatus is how the reading of one scope ended.
type ScopeStatus string

// Scope statuses.
const (
	// ScopeComplete: all pages were read; what is absent does not exist.
	ScopeComplete ScopeStatus = "complete"
	// ScopeGap: some or all could not be read; what is absent is unknown.
	ScopeGap ScopeStatus = "gap"
	// ScopeDisabled: the account has not enabled the region, so nothing can run there. It is shown, and is a gap only
	// where the region was asked for by name.
	ScopeDisabled ScopeStatus = "region-disabled"
	// ScopeNotOffered: AWS does not offer the service in the region, so nothing of the kind can be there. It is shown, and is
	// no gap.
	ScopeNotOffered ScopeStatus = "not-offered"
	// ScopeExcluded: the configuration leaves the kind out, so that nothing is known of it. It is shown, and is no gap.
	ScopeExcluded ScopeStatus = "excluded"
)

// Scope is one thing a scan set out to read: a kind (or an evidence source) in a place. A scope of the kind "" is the
// place itself, for a place that could not be entered at all.
type Scope struct {
	Place     fleet.Place      `json:"place"`
	Kind      string           `json:"kind,omitempty"`
	Status    ScopeStatus      `json:"status"`
	Class     fleet.ErrorClass `json:"class,omitempty"`
	Detail    string           `json:"detail,omitempty"`
	Resources int              `json:"resources"`
	At        time.Time        `json:"at"`
}

// ScopeStacks is the Scope.Kind of the place's CloudFormation stacks: not a kind, but what tells who manages what.
const ScopeStacks = "cloudformation"

// Account is what is known of one account of the organization.
type Account struct {
	Partition fleet.Partition `json:"partition"`
	ID        fleet.AccountID `json:"id"`
	Name      string          `json:"name,omitempty"`
	OU        string          `json:"ou,omitempty"` // path from the root: "Production/Payments"
	// OUIDs is the same path by id ("ou-ab12-cdefghij"), which does not change when a unit is renamed.
	OUIDs []string          `json:"ou_ids,omitempty"`
	Tags  map[string]string `json:"tags,omitempty"`
	// Status is Organizations' word (ACTIVE, SUSPENDED, …); empty where it was not asked.
	Status string `json:"status,omitempty"`
}

// Snapshot is everything known of one place. Lineage never leaves a place, so that a fleet of any size is judged and
// planned one place at a time.
type Snapshot struct {
	Place   fleet.Place
	Account Account
	Scan    int64
	Taken   time.Time
	// Resources are sorted by Ref. Terminated instances that left evidence inside the window are among them.
	Resources []Resource
	// Scopes says what was read completely and what was not.
	Scopes []Scope
	// Global is the account's global place, of a region's snapshot where it is at hand: its roles are there.
	Global *Snapshot
}

// Index finds resources by reference and consumers by what they launch from.
type Index struct {
	byRef     map[fleet.Ref]*Resource
	consumers map[fleet.Ref][]Consumer
	members   map[fleet.Ref][]*Resource
	operators map[fleet.Ref][]*Resource
	guests    map[fleet.Ref][]*Resource
	clusters  map[string][]*Resource // hosts by the cluster that something on them belongs to
}

// Consumer is a resource that launches from another, with the link that says how.
type Consumer struct {
	Resource *Resource
	Link     Link
}

// NewIndex indexes the snapshot's resources; it keeps pointers into them.
func NewIndex(s *Snapshot) *Index {
	ix := &Index{
		byRef:     make(map[fleet.Ref]*Resource, len(s.Resources)),
		consumers: map[fleet.Ref][]Consumer{},
		members:   map[fleet.Ref][]*Resource{},
		operators: map[fleet.Ref][]*Resource{},
		guests:    map[fleet.Ref][]*Resource{},
		clusters:  map[string][]*Resource{},
	}
	for i := range s.Resources {
		r := &s.Resources[i]
		ix.byRef[r.Ref] = r
		for _, l := range r.Links {
			switch l.Relation {
			case LaunchesFrom:
				ix.consumers[l.To] = append(ix.consumers[l.To], Consumer{r, l})
			case MemberOf, LaunchedFrom:
				ix.members[l.To] = append(ix.members[l.To], r)
			case Operates:
				ix.operators[l.To] = append(ix.operators[l.To], r)
			case RunsOn:
				ix.guests[l.To] = append(ix.guests[l.To], r)
			}
		}
	}
	ix.cluster(s)
	return ix
}

// cluster notes on which hosts the clusters are.
func (ix *Index) cluster(s *Snapshot) {
	for i := range s.Resources {
		r := &s.Resources[i]
		name := r.Attrs[AttrCluster]
		if l, ok := r.Link(RunsOn); ok && name != "" && ix.byRef[l.To] != nil {
			ix.clusters[name] = append(ix.clusters[name], ix.byRef[l.To])
		}
	}
}

// Resource finds a resource; nil where the snapshot has none.
func (ix *Index) Resource(ref fleet.Ref) *Resource { return ix.byRef[ref] }

// Consumers lists who will launch from ref, in the snapshot's order.
func (ix *Index) Consumers(ref fleet.Ref) []Consumer { return ix.consumers[ref] }

// Any tells whether some resource has the status.
func (ix *Index) Any(status Status) bool {
	for _, r := range ix.byRef {
		if r.Status == status {
			return true
		}
	}
	return false
}

// Members lists the instances that belong to a group or were launched from a template, in the snapshot's order.
func (ix *Index) Members(ref fleet.Ref) []*Resource { return ix.members[ref] }

// Group is the launcher that an instance belongs to; nil where it has none, or where that was deleted or launched it once and
// for all, so that nothing stands for the instance but itself.
func (ix *Index) Group(r *Resource) *Resource {
	if l, ok := r.Link(MemberOf); ok {
		return ix.byRef[l.To]
	}
	return nil
}

// Operators lists what operates ref: whoever changes ref itself is changed back by them.
func (ix *Index) Operators(ref fleet.Ref) []*Resource { return ix.operators[ref] }

// Guests lists what runs on the host ref.
func (ix *Index) Guests(ref fleet.Ref) []*Resource { return ix.guests[ref] }

// Hosts lists the instances that a launcher has started: its own members, those of the groups it operates, and, for a service
// that does not name its groups (AWS Batch), those of its cluster, with all that their groups ever had.
func (ix *Index) Hosts(ref fleet.Ref) []*Resource {
	out := ix.members[ref]
	r := ix.byRef[ref]
	if r == nil {
		return out
	}
	operates := false
	for _, l := range r.Links {
		if l.Relation == Operates {
			operates = true
			out = append(slices.Clip(out), ix.members[l.To]...)
		}
	}
	if name := r.Attrs[AttrCluster]; name != "" && !operates && r.Status == "" && ref.Kind == KindBatch {
		out = append(slices.Clip(out), ix.clustered(name)...)
	}
	return out
}

// clustered lists the hosts of a cluster, and the other members of their groups.
func (ix *Index) clustered(name string) []*Resource {
	seen := map[fleet.Ref]bool{}
	var out []*Resource
	add := func(r *Resource) {
		if !seen[r.Ref] {
			seen[r.Ref] = true
			out = append(out, r)
		}
	}
	for _, host := range ix.clusters[name] {
		add(host)
		if l, ok := host.Link(MemberOf); ok {
			for _, m := range ix.members[l.To] {
				add(m)
			}
		}
	}
	return out
}

// Owner is who would change a resource back, the nearest first: the service that manages it, by its own word or its tags; what
// operates it, or the group it is a member of; the code that lists it (Claims); whoever else its tags name. What a service
// operates belongs to the service, whatever code and tags say.
func (ix *Index) Owner(r *Resource) fleet.Owner {
	if r.Owner.Managed {
		return r.Owner
	}
	if by := ix.operators[r.Ref]; len(by) > 0 {
		name := by[0].Name
		if name == "" {
			name = by[0].Ref.ID
		}
		return fleet.Owner{Type: by[0].Ref.Kind, Name: name, Managed: true}
	}
	if l, ok := r.Link(MemberOf); ok {
		if group := ix.byRef[l.To]; group != nil && group != r {
			if o := ix.Owner(group); o.Managed {
				return o
			}
		}
	}
	if len(r.Claims) > 0 {
		return r.Claims[0]
	}
	return r.Owner
}

// Code is the infrastructure as code that has to be changed as well for a change to last: what owns the resource, or what owns
// the service's resource that operates it. The zero Owner where none is known.
func (ix *Index) Code(r *Resource) fleet.Owner {
	if o := ix.Owner(r); o.IsCode() {
		return o
	}
	by := ix.operators[r.Ref]
	if l, ok := r.Link(MemberOf); ok && len(by) == 0 {
		by = ix.operators[l.To]
	}
	for _, operator := range by {
		if o := ix.Owner(operator); o.IsCode() {
			return o
		}
	}
	return fleet.Owner{}
}

// Gap finds the scope that keeps kind from being known completely in this place, if any.
func (s *Snapshot) Gap(kind string) (Scope, bool) {
	for _, sc := range s.Scopes {
		if (sc.Kind == kind || sc.Kind == "") && sc.Status == ScopeGap {
			return sc, true
		}
	}
	return Scope{}, false
}

// Read tells whether a scan has ever looked for kind in this place. A snapshot without any scope is not a scan's. A kind that
// the configuration excludes counts as not looked for, whatever an earlier scan has found.
func (s *Snapshot) Read(kind string) bool {
	if len(s.Scopes) == 0 {
		return true
	}
	seen := false
	for _, sc := range s.Scopes {
		if sc.Kind == kind && sc.Status == ScopeExcluded {
			return false
		}
		seen = seen || sc.Kind == kind || sc.Kind == ""
	}
	return seen
}
