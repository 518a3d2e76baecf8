package assess

import "github.com/imdsctl/imdsctl/internal/evidence"

// Role is the part that the resources of a kind play between a setting and a program that calls the metadata service.
type Role string

// Roles, in the order in which they are judged: each rests on those before it.
const (
	// RoleFact: it tells something about other resources and is not judged itself: an ECS container instance.
	RoleFact Role = "fact"
	// RoleHost: it runs programs, and its own options decide what they may call.
	RoleHost Role = "host"
	// RoleLauncher: it starts hosts, from the sources it names or with options of its own.
	RoleLauncher Role = "launcher"
	// RoleSource: launchers and people launch from it: a template, a launch configuration, an image.
	RoleSource Role = "source"
	// RoleDefault: it decides where a launch's sources say nothing: the account's default in a region.
	RoleDefault Role = "default"
	// RolePolicy: it binds whole accounts.
	RolePolicy Role = "policy"
)

// Roles lists all roles in the order in which they are judged.
func Roles() []Role {
	return []Role{RoleFact, RoleHost, RoleLauncher, RoleSource, RoleDefault, RolePolicy}
}

// Manner is how the resources of a kind are judged.
type Manner struct {
	Role Role
	// Metric: successful v1 calls of its hosts are counted, by AWS's MetadataNoToken. Where they are not, nothing becomes
	// ready by observation: it takes a person's override.
	Metric bool
	// Source is where the metric is read; empty for CloudWatch.
	Source evidence.Source
	// Risk: it only tells how much is at stake. What could not be read of it leaves the risk unknown, and no verdict.
	Risk bool
}
