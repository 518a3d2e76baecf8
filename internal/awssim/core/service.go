package core

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Service is one simulated AWS service, as a value.
type Service struct {
	// Name is IAM's prefix and the name in fault rules, the call log and seeds: "ec2".
	Name string
	// Signing are the names in the credential scope; Name when empty. CloudWatch signs as "monitoring".
	Signing []string
	// Protocols are those it answers. A Query service names EC2Query or Query; the actions of a RESTJSON service have
	// routes.
	Protocols []wire.Protocol
	// Targets are the prefix of X-Amz-Target and the service of CBOR paths ("AWSOrganizationsV20161128").
	Targets []string
	// Namespace is the XML namespace of Query responses.
	Namespace string
	// Global services live in a place without region.
	Global bool
	// Actions by name.
	Actions map[string]Action
	// SeedPlace loads the service's section of a seed's region (of a seed's account, if Global). The place is locked.
	// path is the section's, for errors. Nil where the service has no section.
	SeedPlace func(p *Place, section json.RawMessage, path string) error
	// SeedWorld loads the service's top-level section of a seed ("services"."<name>"), before the places.
	SeedWorld func(w *World, section json.RawMessage, path string) error
	// SeedDone runs after the whole seed of a place was loaded, in order of registration; the place is locked.
	SeedDone func(p *Place) error
	// Controls are routes of the simulator's own, beside those of the core: "GET /_sim/health".
	Controls map[string]func(w *World, rw http.ResponseWriter, r *http.Request)
	// Parse reads a request of a protocol of the service's own (S3's); nil leaves that to package wire.
	Parse func(r *http.Request) (wire.Request, error)
	// ThrottleCode is what it calls a refusal for too many calls, where that is not its protocol's own word.
	ThrottleCode string

	routes wire.Routes
}

// offers tells whether the service answers a protocol.
func (s *Service) offers(p wire.Protocol) bool { return slices.Contains(s.Protocols, p) }

// Action is one operation of a service.
type Action struct {
	// Route is where a REST service has the action: "POST /clusters/{name}/updates?include[]" (see wire.ParseRoute).
	Route string
	// IAM is the name policies know, "<service>:<action>" when empty; "-" needs no permission (GetCallerIdentity).
	IAM string
	// Mutating actions get the place for themselves.
	Mutating bool
	// Params are the top-level parameters understood, labels of the path among them. Any other one is refused, so that
	// a parameter is never silently without effect; nil checks nothing. DryRun is allowed where DryRun is set.
	Params []string
	// DryRun tells that the action knows the parameter DryRun; Handle must call Call.DryRun at the point of no return.
	DryRun bool
	// Bucket is the token bucket that the call takes from; BucketFor decides by the request, if set.
	Bucket    Bucket
	BucketFor func(*Call) Bucket
	// Access lists what must be permitted; nil means the action on "*". It runs with the place locked for reading or
	// writing, and may read state (tags, say).
	Access func(*Call) []Access
	// Handle does the work, writing the response into Call.Out. An error must leave the state as it was.
	Handle func(*Call) error
}

// Access is one permission that a call needs.
type Access struct {
	Action    string // IAM's; the action's own when empty
	Resource  string // ARN; "*" when empty
	Condition map[string][]string
}

// Bucket is a token bucket's size and refill.
type Bucket struct {
	// Name tells buckets of one action apart; the action's name when empty.
	Name   string
	Burst  float64
	Refill float64 // tokens a second
}

// The buckets of AWS.md, "API limits" (EC2 Developer Guide, "Request throttling for the Amazon EC2 API").
var (
	// BucketDescribe is for filtered or paginated describe calls.
	BucketDescribe = Bucket{Burst: 100, Refill: 20}
	// BucketDescribeAll is for describe calls with neither filter nor page size.
	BucketDescribeAll = Bucket{Name: "unfiltered", Burst: 50, Refill: 10}
	// BucketModify is for metadata options, templates and image attributes.
	BucketModify = Bucket{Burst: 100, Refill: 5}
	// BucketDefaults is for ModifyInstanceMetadataDefaults.
	BucketDefaults = Bucket{Burst: 2, Refill: 2}
	// BucketMutating is for all other mutating calls.
	BucketMutating = Bucket{Burst: 50, Refill: 5}
)

func (w *World) register(s *Service) error {
	if s.Name == "" || len(s.Protocols) == 0 {
		return fmt.Errorf("service %q has no name or no protocol", s.Name)
	}
	if w.services[s.Name] != nil {
		return fmt.Errorf("service %s is registered twice", s.Name)
	}
	for name, a := range s.Actions {
		if a.Handle == nil {
			return fmt.Errorf("%s:%s has no handler", s.Name, name)
		}
	}
	if err := s.route(); err != nil {
		return fmt.Errorf("service %s: %w", s.Name, err)
	}
	w.services[s.Name] = s
	signing := s.Signing
	if len(signing) == 0 {
		signing = []string{s.Name}
	}
	for _, n := range signing {
		w.signing[n] = s
	}
	for _, t := range s.Targets {
		w.targets[t] = s
	}
	return nil
}

// route reads the routes of a REST service; every action of one has a route, and of no other.
func (s *Service) route() error {
	rest := s.offers(wire.RESTJSON) && s.Parse == nil
	var routes []wire.Route
	for _, name := range slices.Sorted(maps.Keys(s.Actions)) {
		a := s.Actions[name]
		if rest != (a.Route != "") {
			return fmt.Errorf("action %s: a route belongs to every action of a REST service, and to no other", name)
		}
		if !rest {
			continue
		}
		r, err := wire.ParseRoute(name, a.Route)
		if err != nil {
			return fmt.Errorf("action %s: %w", name, err)
		}
		routes = append(routes, r)
	}
	var err error
	s.routes, err = wire.NewRoutes(routes...)
	return err
}

// level is the state of one token bucket.
type level struct {
	tokens float64
	at     time.Time
}
