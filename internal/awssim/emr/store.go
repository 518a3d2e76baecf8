// Package emr is the simulator's Amazon EMR, as far as metadata options go: security configurations, which hold them in a
// JSON document, and the clusters that name one.
//
// It owns both. Security configurations are immutable, as EMR's are. Clusters launch no instances here: those of a seed
// are in the section of EC2, with EMR's tags.
package emr

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

// Name is the service's name as IAM has it, and that of its section in a seed's region.
const Name = "elasticmapreduce"

// Seed is the section "elasticmapreduce" of a seed's region.
type Seed struct {
	Configurations []ConfigurationSeed `json:"security_configurations,omitempty"`
	Clusters       []ClusterSeed       `json:"clusters,omitempty"`
}

// ConfigurationSeed is a security configuration that is there already.
type ConfigurationSeed struct {
	Name string `json:"name"`
	// Document is the JSON document; an empty one by default.
	Document json.RawMessage `json:"document,omitempty"`
	Created  time.Time       `json:"created,omitzero"` // a year ago by default
}

// ClusterSeed is a cluster that is there already.
type ClusterSeed struct {
	// ID is j- and 13 capital letters or digits.
	ID   string `json:"id"`
	Name string `json:"name"`
	// State is EMR's word; WAITING by default.
	State string `json:"state,omitempty"`
	// Configuration names a security configuration, which may have been deleted since.
	Configuration string            `json:"security_configuration,omitempty"`
	Release       string            `json:"release,omitempty"` // emr-7.1.0 by default
	Tags          map[string]string `json:"tags,omitempty"`
	Created       time.Time         `json:"created,omitzero"` // a day ago by default
}

// configuration is a security configuration. It never changes; it is only made and deleted.
type configuration struct {
	name, document string
	created        time.Time
	there          core.Versioned[bool]
}

// cluster is a cluster of a seed. It never changes.
type cluster struct {
	ClusterSeed
}

// store is the state of one place.
type store struct {
	configurations []*configuration // by time of creation
	clusters       []*cluster       // the newest first
}

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any { return &store{} }).(*store)
}

func (s *store) configuration(name string, there func(*configuration) bool) *configuration {
	for _, c := range s.configurations {
		if c.name == name && there(c) {
			return c
		}
	}
	return nil
}

func newest(c *configuration) bool { return c.there.Newest() }

// states are all that ClusterState knows.
var states = []string{
	"STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS",
}

var clusterID = regexp.MustCompile(`^j-[A-Z0-9]{13}$`)

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s, now := storeOf(p), p.World().Now()
	for i, c := range in.Configurations {
		if err := s.addConfiguration(c, now); err != nil {
			return fmt.Errorf("%s.security_configurations[%d]: %w", path, i, err)
		}
	}
	for i, c := range in.Clusters {
		if err := s.addCluster(c, now); err != nil {
			return fmt.Errorf("%s.clusters[%d]: %w", path, i, err)
		}
	}
	return nil
}

func (s *store) addConfiguration(in ConfigurationSeed, now time.Time) error {
	if in.Created.IsZero() {
		in.Created = now.AddDate(-1, 0, 0)
	}
	if len(in.Document) == 0 {
		in.Document = json.RawMessage("{}")
	}
	if in.Name == "" || s.configuration(in.Name, newest) != nil {
		return fmt.Errorf("name %q is empty or used twice", in.Name)
	}
	s.configurations = append(s.configurations, &configuration{
		name: in.Name, document: string(in.Document), created: in.Created, there: core.Always(true),
	})
	return nil
}

func (s *store) addCluster(in ClusterSeed, now time.Time) error {
	if in.State == "" {
		in.State = "WAITING"
	}
	if in.Release == "" {
		in.Release = "emr-7.1.0"
	}
	if in.Created.IsZero() {
		in.Created = now.AddDate(0, 0, -1)
	}
	switch {
	case !clusterID.MatchString(in.ID) || slices.ContainsFunc(s.clusters, func(c *cluster) bool { return c.ID == in.ID }):
		return fmt.Errorf("id %q: want j- and 13 capital letters or digits, each once", in.ID)
	case !slices.Contains(states, in.State):
		return fmt.Errorf("state %q: want one of %s", in.State, strings.Join(states, ", "))
	}
	in.Tags = maps.Clone(in.Tags)
	s.clusters = append(s.clusters, &cluster{in})
	slices.SortStableFunc(s.clusters, func(a, b *cluster) int { return b.Created.Compare(a.Created) })
	return nil
}
