package ssm

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// AgentSeed is an agent that reports itself to Systems Manager.
type AgentSeed struct {
	// Instance is an EC2 instance, or a machine outside of EC2: "mi-" and 17 digits.
	Instance string `json:"instance"`
	Version  string `json:"version"`
	// Ping is "Online" by default, or "ConnectionLost".
	Ping            string `json:"ping,omitempty"`
	PlatformType    string `json:"platform_type,omitempty"`    // "Linux" by default
	PlatformName    string `json:"platform_name,omitempty"`    // "Amazon Linux" by default
	PlatformVersion string `json:"platform_version,omitempty"` // "2" by default
}

// The bounds of a page of DescribeInstanceInformation, and what it holds when nothing is said (API reference, MaxResults).
const (
	leastAgents   = 5
	mostAgents    = 50
	defaultAgents = 10
)

// SetAgentVersion makes the agent of an instance report another version, as an update does. The place must not be locked.
func SetAgentVersion(p *core.Place, instance, version string) {
	p.With(func(time.Time) {
		s := storeOf(p)
		for n := range s.agents {
			if s.agents[n].Instance == instance {
				s.agents[n].Version = version
				return
			}
		}
		s.agents = append(s.agents, AgentSeed{Instance: instance, Version: version}.whole())
	})
}

func (a AgentSeed) whole() AgentSeed {
	for field, usual := range map[*string]string{
		&a.Ping: "Online", &a.PlatformType: "Linux", &a.PlatformName: "Amazon Linux", &a.PlatformVersion: "2",
	} {
		if *field == "" {
			*field = usual
		}
	}
	return a
}

func (s *store) seedAgents(agents []AgentSeed, path string) error {
	seen := map[string]bool{}
	for n, a := range agents {
		a = a.whole()
		switch {
		case !instanceID.MatchString(a.Instance) || seen[a.Instance]:
			return fmt.Errorf("%s.agents[%d]: %q is no instance id, or is there already", path, n, a.Instance)
		case !agentVersion.MatchString(a.Version):
			return fmt.Errorf("%s.agents[%d]: %q is no agent's version", path, n, a.Version)
		case a.Ping != "Online" && a.Ping != "ConnectionLost":
			return fmt.Errorf("%s.agents[%d]: ping is Online or ConnectionLost, not %q", path, n, a.Ping)
		case !slices.Contains([]string{"Linux", "Windows", "MacOS"}, a.PlatformType):
			return fmt.Errorf("%s.agents[%d]: platform_type is Linux, Windows or MacOS, not %q", path, n, a.PlatformType)
		}
		seen[a.Instance] = true
		s.agents = append(s.agents, a)
	}
	return nil
}

// describeAgents lists the agents that report themselves. Nodes that are stopped or terminated are left out, as AWS does.
func describeAgents(c *core.Call) error {
	limit, set, err := c.In.Int("MaxResults")
	switch {
	case err != nil || set && (limit < leastAgents || limit > mostAgents):
		return validation("Value at 'maxResults' must be between %d and %d", leastAgents, mostAgents)
	case !set:
		limit = defaultAgents
	}
	after, err := readAgentToken(c.In.Str("NextToken"))
	if err != nil {
		return err
	}
	holds, err := agentFilters(c.In)
	if err != nil {
		return err
	}
	s, shown, next := storeOf(c.Place), int64(0), ""
	c.Out.List("InstanceInformationList", func() {
		for n := after; n < len(s.agents); n++ {
			a := &s.agents[n]
			if !s.reports(c.Place, a) || slices.ContainsFunc(holds, func(f func(*AgentSeed) bool) bool { return !f(a) }) {
				continue
			}
			if shown == limit {
				next = base64.RawURLEncoding.EncodeToString(strconv.AppendInt(nil, int64(n), 10))
				return
			}
			shown++
			c.Out.Struct("", func() { writeAgent(c, a) })
		}
	})
	c.Out.Opt("NextToken", next)
	return nil
}

func readAgentToken(token string) (int, error) {
	if token == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		var n int
		if n, err = strconv.Atoi(string(b)); err == nil && n > 0 {
			return n, nil
		}
	}
	return 0, wire.Errorf("InvalidNextToken", "The specified token is not valid.")
}

// reports tells whether a node is listed: what is outside of EC2 always is, an instance while it runs and has an agent. An instance
// that the world does not have is taken to run.
func (s *store) reports(p *core.Place, a *AgentSeed) bool {
	if !strings.HasPrefix(a.Instance, "i-") {
		return true
	}
	i := ec2.StoreOf(p).Instance(a.Instance)
	return (i == nil || i.Newest().State == ec2.StateRunning) && !s.unmanaged[a.Instance]
}

// agentFilters reads the filters, in the form of today and in the one before it, which the API refuses together.
func agentFilters(in wire.Value) ([]func(*AgentSeed) bool, error) {
	filters, legacy := in.Items("Filters"), in.Items("InstanceInformationFilterList")
	if len(filters) > 0 && len(legacy) > 0 {
		return nil, validation("Filters and InstanceInformationFilterList cannot be used together")
	}
	key, values := "Key", "Values"
	if len(legacy) > 0 {
		filters, key, values = legacy, "key", "valueSet"
	}
	var out []func(*AgentSeed) bool
	for _, f := range filters {
		field, ok := agentFields[f.Str(key)]
		if !ok {
			return nil, wire.Errorf("InvalidFilterKey", "The filter key %s is not valid.", f.Str(key))
		}
		wanted := f.Strings(values)
		if len(wanted) == 0 || f.Str(key) == "InstanceIds" && slices.ContainsFunc(wanted, func(v string) bool {
			return !instanceID.MatchString(v)
		}) {
			return nil, wire.Errorf("InvalidInstanceInformationFilterValue", "The filter value %q is not valid.", wanted)
		}
		out = append(out, func(a *AgentSeed) bool { return slices.Contains(wanted, field(a)) })
	}
	return out, nil
}

// agentFields are the filter keys that the simulator understands.
var agentFields = map[string]func(*AgentSeed) string{
	"InstanceIds":   func(a *AgentSeed) string { return a.Instance },
	"AgentVersion":  func(a *AgentSeed) string { return a.Version },
	"PingStatus":    func(a *AgentSeed) string { return a.Ping },
	"PlatformTypes": func(a *AgentSeed) string { return a.PlatformType },
	"ResourceType":  (*AgentSeed).resourceType,
}

func (a *AgentSeed) resourceType() string {
	if strings.HasPrefix(a.Instance, "i-") {
		return "EC2Instance"
	}
	return "ManagedInstance"
}

// silence is for how long an agent whose connection is lost has said nothing.
const silence = 2 * time.Hour

func writeAgent(c *core.Call, a *AgentSeed) {
	w, seen := c.Out, c.Now
	if a.Ping != "Online" {
		seen = seen.Add(-silence)
	}
	w.Str("InstanceId", a.Instance)
	w.Str("PingStatus", a.Ping)
	w.Time("LastPingDateTime", seen)
	w.Str("AgentVersion", a.Version)
	w.Bool("IsLatestVersion", false)
	w.Str("PlatformType", a.PlatformType)
	w.Str("PlatformName", a.PlatformName)
	w.Str("PlatformVersion", a.PlatformVersion)
	w.Str("ResourceType", a.resourceType())
	w.Str("ComputerName", a.Instance+"."+string(c.Place.Region)+".compute.internal")
}
