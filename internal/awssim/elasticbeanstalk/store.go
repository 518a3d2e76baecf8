// Package elasticbeanstalk is the simulator's AWS Elastic Beanstalk, as far as metadata options go: environments, their
// option settings, the Auto Scaling groups that they operate, and updates of their options.
//
// It owns the environments. What an environment launches belongs to the simulated Auto Scaling and EC2: an update of the
// option DisableIMDSv1 gives the groups a launch template that says so and replaces their instances one by one, in
// simulated time, as Beanstalk's rolling updates do. Until that is done the new settings are a draft beside the deployed
// ones. Beanstalk has no option for a hop limit, and so has this.
package elasticbeanstalk

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
)

// Name is the service's name, and that of its section in a seed's region.
const Name = "elasticbeanstalk"

// The statuses of environments that are used here (EnvironmentStatus).
const (
	statusReady       = "Ready"
	statusUpdating    = "Updating"
	statusTerminating = "Terminating"
	statusTerminated  = "Terminated"
)

// Seed is the section "elasticbeanstalk" of a seed's region.
type Seed struct {
	Environments []EnvironmentSeed `json:"environments,omitempty"`
}

// EnvironmentSeed is an environment that is there already.
type EnvironmentSeed struct {
	// ID is e- and ten letters or digits; Name is unique among environments that are not terminated.
	ID          string `json:"id"`
	Name        string `json:"name"`
	Application string `json:"application"`
	// SolutionStack names the platform: "64bit Amazon Linux 2023 v4.3.0 running Docker".
	SolutionStack string `json:"solution_stack,omitempty"`
	PlatformARN   string `json:"platform_arn,omitempty"`
	Status        string `json:"status,omitempty"` // Ready by default
	// Options are the deployed settings, by namespace, slash and name. An option that is not there reads without a value.
	Options map[string]string `json:"options,omitempty"`
	// Failed are settings of a deployment that failed: they read as a second set.
	Failed map[string]string `json:"failed,omitempty"`
	// Groups are the Auto Scaling groups that it operates. One that the section autoscaling does not have is only named.
	Groups  []string          `json:"groups,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Created time.Time         `json:"created,omitzero"` // a year ago by default
}

// OptionDisableV1 is the option that turns IMDSv1 off, as it stands in EnvironmentSeed.Options.
const OptionDisableV1 = launchNamespace + "/DisableIMDSv1"

const (
	launchNamespace = "aws:autoscaling:launchconfiguration"
	variables       = "aws:elasticbeanstalk:application:environment"
)

// environment is one environment; what can change is in its state.
type environment struct {
	id, name, application, stack, platform string
	created                                time.Time
	tags                                   map[string]string
	groups                                 []string
	state                                  core.Versioned[*state]
}

// state is an environment as of one moment. It is never changed, only replaced.
type state struct {
	status  string
	updated time.Time
	options map[string]string
	// draft are settings that are being deployed, or whose deployment failed; nil for none.
	draft  map[string]string
	failed bool
}

func (e *environment) gone() bool {
	s := e.state.Newest().status
	return s == statusTerminated || s == statusTerminating
}

// store is the state of one place: environments in the order in which they were made.
type store struct{ environments []*environment }

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any { return &store{} }).(*store)
}

// find finds an environment by id, or, among those that are not terminated, by name.
func (s *store) find(id, name string) *environment {
	for _, e := range s.environments {
		if id != "" && e.id == id && (name == "" || e.name == name) || id == "" && e.name == name && !e.gone() {
			return e
		}
	}
	return nil
}

var (
	environmentID = regexp.MustCompile(`^e-[a-z0-9]{10}$`)
	// environmentName is the rule of CreateEnvironment: 4 to 40 letters, digits and hyphens, none at either end.
	environmentName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{2,38}[A-Za-z0-9]$`)
)

// statuses are all that EnvironmentStatus knows.
var statuses = []string{
	"Aborting", "Launching", statusUpdating, "LinkingFrom", "LinkingTo", statusReady, statusTerminating, statusTerminated,
}

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	for i, e := range in.Environments {
		if err := storeOf(p).add(e, p.World().Now()); err != nil {
			return fmt.Errorf("%s.environments[%d]: %w", path, i, err)
		}
	}
	return nil
}

func (s *store) add(in EnvironmentSeed, now time.Time) error {
	if in.Status == "" {
		in.Status = statusReady
	}
	if in.Created.IsZero() {
		in.Created = now.AddDate(-1, 0, 0)
	}
	switch {
	case !environmentID.MatchString(in.ID) || s.find(in.ID, "") != nil:
		return fmt.Errorf("id %q: want e- and ten letters or digits, each once", in.ID)
	case !environmentName.MatchString(in.Name) || s.find("", in.Name) != nil:
		return fmt.Errorf("name %q is not valid or used twice", in.Name)
	case in.Application == "":
		return fmt.Errorf("environment %s has no application", in.ID)
	case !slices.Contains(statuses, in.Status):
		return fmt.Errorf("status %q: want one of %s", in.Status, strings.Join(statuses, ", "))
	}
	for _, options := range []map[string]string{in.Options, in.Failed} {
		for key := range options {
			if namespace, name, ok := strings.Cut(key, "/"); !ok || namespace == "" || name == "" {
				return fmt.Errorf("option %q: want a namespace, a slash and a name", key)
			}
		}
	}
	e := &environment{
		id: in.ID, name: in.Name, application: in.Application, stack: in.SolutionStack, platform: in.PlatformARN,
		created: in.Created, tags: maps.Clone(in.Tags), groups: slices.Clone(in.Groups),
	}
	e.state = core.Always(&state{
		status: in.Status, updated: in.Created, options: maps.Clone(in.Options), draft: in.Failed, failed: in.Failed != nil,
	})
	s.environments = append(s.environments, e)
	return nil
}
