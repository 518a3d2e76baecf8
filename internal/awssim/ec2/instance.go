package ec2

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Instance states, in EC2's words.
const (
	StatePending      = "pending"
	StateRunning      = "running"
	StateShuttingDown = "shutting-down"
	StateTerminated   = "terminated"
	StateStopping     = "stopping"
	StateStopped      = "stopped"
)

// stateCodes are the low byte of InstanceState.Code.
var stateCodes = map[string]int64{
	StatePending: 0, StateRunning: 16, StateShuttingDown: 32, StateTerminated: 48, StateStopping: 64, StateStopped: 80,
}

// Status is the result of an instance's status checks.
type Status string

// The statuses.
const (
	StatusOK           Status = "ok"
	StatusImpaired     Status = "impaired"
	StatusInitializing Status = "initializing"
)

// Instance is one instance with its history.
type Instance struct {
	id      string
	serial  uint32
	index   int32 // of its reservation
	gone    bool  // forgotten, an hour after its end
	status  Status
	state   core.Versioned[*InstanceState]
	history []OptionsAt
	lives   []Life
}

// InstanceState is an instance as of one moment. It is never changed, only replaced.
type InstanceState struct {
	State        string
	Options      fleet.Options
	Pending      bool // the options are not yet applied
	ImageID      string
	InstanceType string
	SubnetID     string
	VPCID        string
	AZ           string
	ProfileARN   string
	KeyName      string
	PrivateIP    string
	PublicIP     string
	IPv6         string
	// SecurityGroups are ids, joined by commas, because most instances share them.
	SecurityGroups string
	// ProductCodes are the image's at the launch, joined by commas.
	ProductCodes string
	Reservation  string
	ClientToken  string
	Reason       string // why it is not running
	LaunchTime   time.Time
	Tags         []Tag
	Operator     *Operator
}

// OptionsAt tells from when on an instance ran with certain options.
type OptionsAt struct {
	At      time.Time
	Options fleet.Options
}

// Life is a time in which an instance was up; To is zero while it is.
type Life struct{ From, To time.Time }

// ID is the instance's id.
func (i *Instance) ID() string { return i.id }

// Newest is the instance as the last writer left it.
func (i *Instance) Newest() InstanceState { return *i.state.Newest() }

// Seen is the instance as describe calls show it at now; ok is false while they do not show it.
func (i *Instance) Seen(now time.Time) (state InstanceState, ok bool) {
	s := i.state.Seen(now)
	if s == nil || i.gone {
		return InstanceState{}, false
	}
	return *s, true
}

// History lists the options in force over time, oldest first; the first entry is the launch.
func (i *Instance) History() []OptionsAt { return i.history }

// OptionsAt are the options in force at an instant; before the launch they are those of the launch.
func (i *Instance) OptionsAt(t time.Time) fleet.Options {
	at := 0
	for n, h := range i.history {
		if !h.At.After(t) {
			at = n
		}
	}
	return i.history[at].Options
}

// Lives lists when the instance was up, oldest first.
func (i *Instance) Lives() []Life { return i.lives }

// Status is what its status checks say while it runs.
func (i *Instance) Status() Status { return i.status }

// SetStatus decides an instance's status checks.
func (s *Store) SetStatus(id string, status Status) {
	if i := s.byID[id]; i != nil {
		i.status = status
	}
}

// update replaces an instance's state.
func (s *Store) update(now time.Time, i *Instance, change func(*InstanceState)) {
	next := *i.state.Newest()
	change(&next)
	i.state.Set(now, s.delay(), &next)
}

// applied notes that the options are in force now.
func (i *Instance) applied(now time.Time, o fleet.Options) {
	if n := len(i.history); n > 0 && i.history[n-1].Options == o {
		return
	}
	i.history = append(i.history, OptionsAt{At: now, Options: o})
}

func (i *Instance) end(now time.Time) {
	if n := len(i.lives); n > 0 && i.lives[n-1].To.IsZero() {
		i.lives[n-1].To = now
	}
}

// Start starts a stopped instance; options changed while it was stopped come into force.
func (s *Store) Start(now time.Time, i *Instance) {
	s.update(now, i, func(st *InstanceState) { st.State, st.LaunchTime, st.Reason = StatePending, now, "" })
	i.lives = append(i.lives, Life{From: now})
	i.applied(now, i.state.Newest().Options)
	s.boot(now, i)
}

// boot takes a pending instance to running, and its status checks from initializing to ok.
func (s *Store) boot(now time.Time, i *Instance) {
	i.status = StatusInitializing
	life := len(i.lives)
	settle := s.place.World().Settle()
	s.place.After(now, settle, func(now time.Time) {
		if len(i.lives) == life && i.state.Newest().State == StatePending {
			i.applied(now, i.state.Newest().Options)
			s.update(now, i, func(st *InstanceState) { st.State, st.Pending = StateRunning, false })
		}
	})
	// Status checks run every minute; a new instance passes its first after about two.
	s.place.After(now, settle+settle, func(time.Time) {
		if len(i.lives) == life && i.status == StatusInitializing {
			i.status = StatusOK
		}
	})
}

// Stop stops a running instance.
func (s *Store) Stop(now time.Time, i *Instance) {
	s.update(now, i, func(st *InstanceState) {
		st.State, st.Reason = StateStopping, "User initiated ("+now.UTC().Format("2006-01-02 15:04:05")+" GMT)"
	})
	i.end(now)
	s.notify(now, i)
	s.place.After(now, s.place.World().Settle(), func(now time.Time) {
		if i.state.Newest().State == StateStopping {
			s.update(now, i, func(st *InstanceState) { st.State = StateStopped })
		}
	})
}

// forgetAfter is how long EC2 shows a terminated instance ("usually within one hour", EC2 User Guide).
const forgetAfter = time.Hour

// Terminate ends instances; ids that are not there and instances already ended are passed over.
func (s *Store) Terminate(now time.Time, ids ...string) {
	for _, id := range ids {
		i := s.byID[id]
		if i == nil || ended(i.state.Newest().State) {
			continue
		}
		s.update(now, i, func(st *InstanceState) {
			st.State, st.Reason = StateShuttingDown, "User initiated ("+now.UTC().Format("2006-01-02 15:04:05")+" GMT)"
		})
		i.end(now)
		s.notify(now, i)
		s.place.After(now, s.place.World().Settle(), func(now time.Time) {
			s.update(now, i, func(st *InstanceState) { st.State, st.PrivateIP = StateTerminated, "" })
		})
		s.place.After(now, forgetAfter, func(time.Time) { s.forget(i) })
	}
}

func ended(state string) bool { return state == StateShuttingDown || state == StateTerminated }

// forget removes an instance. Pages go by serial, so a hole does not disturb them.
func (s *Store) forget(i *Instance) {
	i.gone = true
	s.remember(i)
	delete(s.byID, i.id)
	s.unindex(i)
	if at, ok := slices.BinarySearchFunc(s.order, i.serial, bySerial); ok {
		s.order = slices.Delete(s.order, at, at+1)
	}
}

func bySerial(i *Instance, serial uint32) int { return int(int64(i.serial) - int64(serial)) }

func (s *Store) add(i *Instance) {
	s.serial++
	i.serial = s.serial
	s.byID[i.id] = i
	s.order = append(s.order, i)
	s.index(i)
}

var instanceID = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)

// find looks instances up by id, with EC2's errors. Describe calls see with their own eyes, hence visible.
func (s *Store) find(ids []string, visible func(*Instance) bool) ([]*Instance, error) {
	var malformed, missing []string
	out := make([]*Instance, 0, len(ids))
	for _, id := range ids {
		i := s.byID[id]
		switch {
		case !instanceID.MatchString(id):
			malformed = append(malformed, id)
		case i == nil || !visible(i):
			missing = append(missing, id)
		case !slices.Contains(out, i):
			out = append(out, i)
		}
	}
	switch {
	case len(malformed) > 0:
		return nil, wire.Errorf("InvalidInstanceID.Malformed", `Invalid id: "%s"`, malformed[0])
	case len(missing) == 1:
		return nil, wire.Errorf("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", missing[0])
	case len(missing) > 1:
		return nil, wire.Errorf("InvalidInstanceID.NotFound", "The instance IDs '%s' do not exist", strings.Join(missing,
			", "))
	}
	return out, nil
}

func exists(*Instance) bool { return true }

func instanceActions() map[string]core.Action {
	return map[string]core.Action{
		"DescribeInstances": describe(describeInstances,
			"InstanceId", "Filter", "MaxResults", "NextToken", "IncludeManagedResources"),
		"DescribeInstanceStatus": describe(describeInstanceStatus,
			"InstanceId", "Filter", "MaxResults", "NextToken", "IncludeAllInstances", "IncludeManagedResources"),
		"RunInstances": change(core.BucketMutating, runInstances, accessRun,
			"ImageId", "InstanceType", "MinCount", "MaxCount", "SubnetId", "KeyName", "Placement", "SecurityGroupId",
			"SecurityGroup",
			"TagSpecification", "IamInstanceProfile", "MetadataOptions", "LaunchTemplate", "ClientToken", "UserData",
			"Monitoring",
			"EbsOptimized", "DisableApiTermination", "BlockDeviceMapping", "NetworkInterface",
			"InstanceInitiatedShutdownBehavior"),
		"TerminateInstances": change(core.BucketMutating, terminateInstances, accessInstances, "InstanceId", "Force",
			"SkipOsShutdown"),
		"StopInstances": change(core.BucketMutating, stopInstances, accessInstances,
			"InstanceId", "Force", "Hibernate", "SkipOsShutdown"),
		"StartInstances":  change(core.BucketMutating, startInstances, accessInstances, "InstanceId", "AdditionalInfo"),
		"RebootInstances": change(core.BucketMutating, rebootInstances, accessInstances, "InstanceId"),
	}
}

// accessInstances needs the action on each instance named.
func accessInstances(c *core.Call) []core.Access {
	s := storeOf(c)
	var out []core.Access
	for _, id := range append(c.In.Strings("InstanceId"), c.In.Str("InstanceId")) {
		if id == "" {
			continue
		}
		a := core.Access{Resource: c.ARN(Name, "instance/"+id), Condition: map[string][]string{}}
		if i := s.byID[id]; i != nil {
			a.Condition = instanceConditions(c, i.state.Newest())
		}
		out = append(out, a)
	}
	if out == nil {
		out = []core.Access{{Resource: c.ARN(Name, "instance/*")}}
	}
	return out
}

func instanceConditions(c *core.Call, st *InstanceState) map[string][]string {
	m := tagConditions(c, st.Tags)
	m["ec2:instancetype"] = []string{st.InstanceType}
	m["ec2:availabilityzone"] = []string{st.AZ}
	if st.ProfileARN != "" {
		m["ec2:instanceprofile"] = []string{st.ProfileARN}
	}
	maps.Copy(m, optionConditions(st.Options))
	return m
}

// optionConditions are the condition keys that describe metadata options.
func optionConditions(o fleet.Options) map[string][]string {
	m := map[string][]string{}
	for k, v := range map[string]string{"ec2:metadatahttptokens": o.Tokens, "ec2:metadatahttpendpoint": o.Endpoint} {
		if v != "" {
			m[k] = []string{v}
		}
	}
	if o.HopLimit > 0 {
		m["ec2:metadatahttpputresponsehoplimit"] = []string{fmt.Sprint(o.HopLimit)}
	}
	return m
}

// transition carries out a state change of several instances: all or none.
func transition(c *core.Call, check func(*Instance) error, act func(*Store, *Instance)) error {
	s := storeOf(c)
	ids := c.In.Strings("InstanceId")
	if len(ids) == 0 {
		return wire.Errorf("MissingParameter", "The request must contain the parameter InstanceId")
	}
	c.Touch(ids...)
	found, err := s.find(ids, exists)
	if err != nil {
		return err
	}
	for _, i := range found {
		if err := refuseManaged(i.id, i.state.Newest().Operator); err != nil {
			return err
		}
		if err := check(i); err != nil {
			return err
		}
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	before := make([]string, len(found))
	for n, i := range found {
		before[n] = i.state.Newest().State
		act(s, i)
		c.Mutated(i.id)
	}
	c.Out.List("instancesSet", func() {
		for n, i := range found {
			c.Out.Struct("", func() {
				c.Out.Str("instanceId", i.id)
				writeState(c.Out, "currentState", i.state.Newest().State)
				writeState(c.Out, "previousState", before[n])
			})
		}
	})
	return nil
}

// refuseManaged keeps callers from changing what an AWS service manages (EC2 User Guide, "Amazon EC2 managed
// instances").
func refuseManaged(id string, o *Operator) error {
	if o == nil || !o.Managed {
		return nil
	}
	return wire.Errorf("OperationNotPermitted",
		"The resource '%s' is managed by '%s' and can be changed only through that service.", id, o.Principal)
}

func wrongState(i *Instance, verb string) error {
	return wire.Errorf("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be %s.", i.id,
		verb)
}

func terminateInstances(c *core.Call) error {
	return transition(c, func(*Instance) error { return nil }, func(s *Store, i *Instance) { s.Terminate(c.Now, i.id) })
}

func stopInstances(c *core.Call) error {
	return transition(c, func(i *Instance) error {
		if ended(i.state.Newest().State) || i.state.Newest().State == StatePending {
			return wrongState(i, "stopped")
		}
		return nil
	}, func(s *Store, i *Instance) {
		if i.state.Newest().State == StateRunning {
			s.Stop(c.Now, i)
		}
	})
}

func startInstances(c *core.Call) error {
	return transition(c, func(i *Instance) error {
		if ended(i.state.Newest().State) || i.state.Newest().State == StateStopping {
			return wrongState(i, "started")
		}
		return nil
	}, func(s *Store, i *Instance) {
		if i.state.Newest().State == StateStopped {
			s.Start(c.Now, i)
		}
	})
}

// rebootInstances keeps the launch time: a reboot is not a launch, but software that calls IMDS at boot calls again.
func rebootInstances(c *core.Call) error {
	s := storeOf(c)
	ids := c.In.Strings("InstanceId")
	c.Touch(ids...)
	found, err := s.find(ids, exists)
	if err != nil {
		return err
	}
	for _, i := range found {
		if err := refuseManaged(i.id, i.state.Newest().Operator); err != nil {
			return err
		}
		if i.state.Newest().State != StateRunning {
			return wrongState(i, "rebooted")
		}
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	for _, i := range found {
		i.end(c.Now)
		i.lives = append(i.lives, Life{From: c.Now})
		c.Mutated(i.id)
	}
	c.Out.Bool("return", true)
	return nil
}
