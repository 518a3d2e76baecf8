package core

import (
	"net/http"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Call is one request on its way: who calls what, where and when, with which parameters. It belongs to one goroutine.
type Call struct {
	World     *World
	Place     *Place
	Service   *Service
	Action    string
	Version   string // of the API, where the protocol says it
	Principal *Principal
	RequestID string
	// Now is the time of the effect.
	Now time.Time
	In  wire.Value
	Out *wire.Writer
	// Whole is a response that the handler made itself, headers and all, in place of Out; refusals carry its headers as well.
	Whole *Whole

	spec      Action
	region    fleet.Region // of the credential scope, also for global services
	mutated   bool
	resources []string
}

// Whole is a response as it goes out.
type Whole struct {
	Status int
	Header http.Header
	Body   []byte
}

// Account is the caller's account.
func (c *Call) Account() fleet.AccountID { return c.Place.Account }

// Region is the region the request was signed for, also for global services.
func (c *Call) Region() fleet.Region { return c.region }

// ARN makes an ARN in this place: ARN("ec2", "instance/i-0abc").
func (c *Call) ARN(service, resource string) string {
	return "arn:" + string(c.Place.Partition) + ":" + service + ":" + string(c.Place.Region) + ":" +
		string(c.Place.Account) + ":" + resource
}

// Touch names resources in the call log.
func (c *Call) Touch(ids ...string) {
	for _, id := range ids {
		if !slices.Contains(c.resources, id) {
			c.resources = append(c.resources, id)
		}
	}
}

// Mutated marks in the call log that the call changed state, and of which resources. A handler calls it exactly when it
// has changed something; a modification to the same value counts, as it does for AWS.
func (c *Call) Mutated(ids ...string) {
	c.mutated = true
	c.Touch(ids...)
}

// DryRun ends a call that only asked whether it would be permitted. Permission was checked before the handler ran.
func (c *Call) DryRun() error {
	dry, _, err := c.In.Bool("DryRun")
	if err != nil || !dry {
		return err
	}
	return &wire.Error{
		Code: "DryRunOperation", Status: http.StatusPreconditionFailed,
		Message: "Request would have succeeded, but DryRun flag is set.",
	}
}

func (c *Call) iamAction() string {
	if c.spec.IAM != "" {
		return c.spec.IAM
	}
	return c.Service.Name + ":" + c.Action
}

// Context is the call's condition context: the global keys and the given ones.
func (c *Call) Context(own map[string][]string) map[string][]string { return c.World.context(c, own) }
