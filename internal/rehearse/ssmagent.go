package rehearse

import (
	"github.com/imdsctl/imdsctl/internal/awssim/ssm"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedSSMAgent lets each agent report what it reported.
func seedSSMAgent(s *Sections, resources []inventory.Resource) error {
	seed := Section[ssm.Seed](s, ssm.Name)
	for i := range resources {
		r := &resources[i]
		seed.Agents = append(seed.Agents, ssm.AgentSeed{
			Instance: r.Ref.ID, Version: r.State[agentVersion], Ping: r.State[agentPing], PlatformType: r.State[agentType],
			PlatformName: r.State[agentPlatform], PlatformVersion: r.State[agentPlatformVersion],
		})
	}
	return nil
}

// Fields of the kind.
const (
	agentVersion         = "AgentVersion"
	agentPing            = "PingStatus"
	agentType            = "PlatformType"
	agentPlatform        = "PlatformName"
	agentPlatformVersion = "PlatformVersion"
)
