package ec2

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Fleet is an EC2 Fleet or a Spot Fleet request. The two are asked for in different words and launch in the same way.
type Fleet struct {
	id      string
	serial  uint32
	spot    bool // a Spot Fleet request
	created time.Time
	state   core.Versioned[*fleetState] // nil: not there
	members []member                    // that have not ended, the oldest first
	turn    int                         // of the pools
	failed  int                         // launches in a row
	planned bool
	errors  []launchError // of a fleet of type instant
}

// fleetState is a fleet as of one moment. It is never changed, only replaced.
type fleetState struct {
	State  string
	Config Data // as it was asked for, by the model's names
	Tags   []Tag
}

// member is an instance of a fleet with the units it counts for.
type member struct {
	instance *Instance
	weight   float64
	from     pool
}

// Tags by which an instance names the fleet it was launched by.
const (
	tagFleet     = "aws:ec2:fleet-id"
	tagSpotFleet = "aws:ec2spot:fleet-request-id"
)

// Types of a fleet.
const (
	fleetInstant  = "instant"
	fleetRequest  = "request"
	fleetMaintain = "maintain"
)

// States of a fleet; one that was deleted is in the state of fleetWord.
const (
	fleetSubmitted = "submitted"
	fleetActive    = "active"
	fleetModifying = "modifying"
)

// fleets are those of a place.
type fleets struct {
	byID     map[string]*Fleet
	order    []*Fleet // by serial
	memberOf map[string]*Fleet
	watching bool
}

func (s *Store) fleets() *fleets {
	return s.place.Store(Name+" fleets", func() any {
		return &fleets{byID: map[string]*Fleet{}, memberOf: map[string]*Fleet{}}
	}).(*fleets)
}

// ID is the fleet's id.
func (f *Fleet) ID() string { return f.id }

// Fleet finds an EC2 Fleet or a Spot Fleet request by its id; nil when there is none.
func (s *Store) Fleet(id string) *Fleet { return s.fleets().byID[id] }

// tag is the tag by which the fleet's instances name it.
func (f *Fleet) tag() string {
	if f.spot {
		return tagSpotFleet
	}
	return tagFleet
}

// ended is the word for a fleet that was deleted, or for a Spot Fleet request that was cancelled.
func (f *Fleet) ended() string {
	if f.spot {
		return "cancelled"
	}
	return "deleted"
}

func (st *fleetState) kind() string {
	if t := st.Config.text("Type"); t != "" {
		return t
	}
	return fleetMaintain
}

// works tells whether the fleet launches anything any more.
func (st *fleetState) works() bool {
	return st.State == fleetSubmitted || st.State == fleetActive || st.State == fleetModifying
}

// target is how many units the fleet shall have.
func (f *Fleet) target(st *fleetState) float64 {
	if f.spot {
		return amount(st.Config, "TargetCapacity")
	}
	capacity, _ := st.Config["TargetCapacitySpecification"].(Data)
	return amount(capacity, "TotalTargetCapacity")
}

// fulfilled is how many it has.
func (f *Fleet) fulfilled() float64 {
	sum := 0.0
	for _, m := range f.members {
		sum += m.weight
	}
	return sum
}

// amount is a number of the data, 0 where it is not set; it was checked when the data came in.
func amount(d Data, name string) float64 {
	n, _ := strconv.ParseFloat(d.text(name), 64)
	return n
}

func (s *Store) addFleet(f *Fleet) {
	all := s.fleets()
	s.serial++
	f.serial = s.serial
	all.byID[f.id] = f
	all.order = append(all.order, f)
	s.watchFleets()
}

func (s *Store) updateFleet(now time.Time, f *Fleet, change func(*fleetState)) {
	next := *f.state.Newest()
	change(&next)
	f.state.Set(now, s.delay(), &next)
}

// newFleetID makes an id in the form of EC2's: a prefix and 36 characters.
func (s *Store) newFleetID(prefix string) string {
	a := strings.TrimPrefix(s.place.World().NewID("x"), "x0")
	b := strings.TrimPrefix(s.place.World().NewID("x"), "x0")
	return prefix + a[:8] + "-" + a[8:12] + "-4" + a[13:16] + "-8" + b[1:4] + "-" + b[4:16]
}

var (
	fleetID     = regexp.MustCompile(`^fleet-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	spotFleetID = regexp.MustCompile(`^sfr-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// fleetIdentity is how EC2 speaks of the ids of one of the two.
type fleetIdentity struct {
	form *regexp.Regexp
	code string // of errors
	spot bool
}

func identityOf(spot bool) fleetIdentity {
	if spot {
		return fleetIdentity{form: spotFleetID, code: "InvalidSpotFleetRequestId", spot: true}
	}
	return fleetIdentity{form: fleetID, code: "InvalidFleetId"}
}

// fleetFor finds a fleet for a request that changes it or asks for its instances.
func (s *Store) fleetFor(id string, spot bool) (*Fleet, error) {
	as := identityOf(spot)
	if !as.form.MatchString(id) {
		return nil, wire.Errorf(as.code+".Malformed", "The fleet ID '%s' is malformed", id)
	}
	f := s.fleets().byID[id]
	if f == nil || f.spot != spot || f.state.Newest() == nil {
		return nil, wire.Errorf(as.code+".NotFound", "The fleet ID '%s' does not exist", id)
	}
	return f, nil
}

func fleetActions() map[string]core.Action {
	modifySpot := change(core.BucketMutating, modifySpotFleet, accessFleet, "SpotFleetRequestId", "LaunchTemplateConfig",
		"TargetCapacity", "OnDemandTargetCapacity", "ExcessCapacityTerminationPolicy", "Context")
	modifySpot.DryRun = false // the API has none
	describeSpot := describe(describeSpotFleets, "SpotFleetRequestId", "MaxResults", "NextToken")
	describeSpot.BucketFor, describeSpot.Bucket = nil, core.Bucket{Burst: 50, Refill: 3}
	actions := map[string]core.Action{
		"CreateFleet": change(core.BucketMutating, createFleet, accessFleet, append([]string{"TagSpecification",
			"ReservedCapacityOptions"}, queryNames(fleetFields)...)...),
		"DescribeFleets":         describe(describeFleets, "FleetId", "Filter", "MaxResults", "NextToken"),
		"DescribeFleetInstances": describe(describeFleetInstances, "FleetId", "Filter", "MaxResults", "NextToken"),
		"ModifyFleet": change(core.BucketMutating, modifyFleet, accessFleet, "FleetId", "LaunchTemplateConfig",
			"TargetCapacitySpecification", "ExcessCapacityTerminationPolicy", "Context"),
		"DeleteFleets": change(core.BucketMutating, deleteFleets, accessFleet, "FleetId", "TerminateInstances"),
	}
	maps.Copy(actions, map[string]core.Action{
		"RequestSpotFleet":           change(core.BucketMutating, requestSpotFleet, accessFleet, "SpotFleetRequestConfig"),
		"DescribeSpotFleetRequests":  describeSpot,
		"DescribeSpotFleetInstances": describe(describeFleetInstances, "SpotFleetRequestId", "MaxResults", "NextToken"),
		"ModifySpotFleetRequest":     modifySpot,
		"CancelSpotFleetRequests": change(core.BucketMutating, deleteFleets, accessFleet, "SpotFleetRequestId",
			"TerminateInstances"),
	})
	return actions
}

func queryNames(fields []field) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.queryName()
	}
	return out
}

// accessFleet needs the action on the fleet, and what launching from its templates takes (Service Authorization Reference,
// "Actions, resources, and condition keys for Amazon EC2": CreateFleet and ModifyFleet name launch templates and instances).
func accessFleet(c *core.Call) []core.Access {
	ids, resource := slices.Concat(c.In.Strings("FleetId"), c.In.Strings("SpotFleetRequestId")), "fleet/"
	ids = slices.DeleteFunc(append(ids, c.In.Str("FleetId"), c.In.Str("SpotFleetRequestId")),
		func(id string) bool { return id == "" })
	if strings.Contains(c.Action, "SpotFleet") {
		resource = "spot-fleet-request/"
	}
	var out []core.Access
	for _, id := range ids {
		a := core.Access{Resource: c.ARN(Name, resource+id)}
		if f := storeOf(c).Fleet(id); f != nil && f.state.Newest() != nil {
			a.Condition = tagConditions(c, f.state.Newest().Tags)
		}
		out = append(out, a)
	}
	if out == nil {
		out = []core.Access{{Resource: c.ARN(Name, resource+"*")}}
	}
	in := c.In
	if in.Has("SpotFleetRequestConfig") {
		in = in.Get("SpotFleetRequestConfig")
	}
	for _, config := range slices.Concat(in.Items("LaunchTemplateConfigs"), in.Items("LaunchTemplateConfig")) {
		t := config.Get("LaunchTemplateSpecification")
		name := t.Str("LaunchTemplateId")
		if name == "" {
			name = t.Str("LaunchTemplateName")
		}
		out = append(out, AccessToLaunch(c, name, t.Str("Version"))...)
	}
	return out
}
