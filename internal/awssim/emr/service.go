package emr

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// pageSize is what one call of a list gives; EMR takes no page size ("up to 50").
const pageSize = 50

// Service declares EMR. It throttles by call and account, at rates of a few calls a second that differ by call; these are
// low enough that a client without a limit of its own is throttled sooner or later.
func Service() *core.Service {
	read, list := core.Bucket{Burst: 20, Refill: 10}, core.Bucket{Burst: 20, Refill: 10}
	write := core.Bucket{Burst: 10, Refill: 5}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.JSON11}, Targets: []string{"ElasticMapReduce"},
		Actions: map[string]core.Action{
			"ListSecurityConfigurations": {Bucket: list, Handle: listConfigurations, Params: []string{"Marker"}},
			"DescribeSecurityConfiguration": {
				Bucket: read, Handle: describeConfiguration, Params: []string{"Name"},
			},
			"CreateSecurityConfiguration": {
				Mutating: true, Bucket: write, Handle: createConfiguration, Params: []string{"Name", "SecurityConfiguration"},
			},
			"DeleteSecurityConfiguration": {
				Mutating: true, Bucket: write, Handle: deleteConfiguration, Params: []string{"Name"},
			},
			"ListClusters": {
				Bucket: list, Handle: listClusters, Params: []string{"ClusterStates", "CreatedAfter", "CreatedBefore", "Marker"},
			},
			"DescribeCluster": {
				Bucket: read, Access: accessCluster, Handle: describeCluster, Params: []string{"ClusterId"},
			},
		},
		SeedPlace: seedPlace,
	}
}

func accessCluster(c *core.Call) []core.Access {
	a := core.Access{Resource: clusterARN(c, c.In.Str("ClusterId")), Condition: map[string][]string{}}
	if found := storeOf(c.Place).cluster(c.In.Str("ClusterId")); found != nil {
		for key, value := range found.Tags {
			a.Condition["aws:resourcetag/"+key] = []string{value}
			a.Condition["elasticmapreduce:resourcetag/"+key] = []string{value}
		}
	}
	return []core.Access{a}
}

func clusterARN(c *core.Call, id string) string { return c.ARN(Name, "cluster/"+id) }

func (s *store) cluster(id string) *cluster {
	i := slices.IndexFunc(s.clusters, func(c *cluster) bool { return c.ID == id })
	if i < 0 {
		return nil
	}
	return s.clusters[i]
}

func invalid(format string, args ...any) error {
	return wire.Errorf("InvalidRequestException", format, args...)
}

// marker reads where a list goes on: the number of elements that were given before.
func marker(in wire.Value) (int, error) {
	text := in.Str("Marker")
	if text == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return 0, invalid("Marker '%s' is not valid.", text)
	}
	n, err := strconv.Atoi(string(b))
	if err != nil || n < 1 {
		return 0, invalid("Marker '%s' is not valid.", text)
	}
	return n, nil
}

func nextMarker(n int) string { return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(n))) }

// writePage writes the page of all elements that the request asks for.
func writePage[T any](c *core.Call, name string, all []T, write func(T)) error {
	from, err := marker(c.In)
	if err != nil {
		return err
	}
	page := all[min(from, len(all)):]
	page = page[:min(pageSize, len(page))]
	c.Out.List(name, func() {
		for _, e := range page {
			c.Out.Struct("", func() { write(e) })
		}
	})
	if from+len(page) < len(all) {
		c.Out.Str("Marker", nextMarker(from+len(page)))
	}
	return nil
}

func listConfigurations(c *core.Call) error {
	var there []*configuration
	for _, s := range storeOf(c.Place).configurations {
		if s.there.Seen(c.Now) {
			there = append(there, s)
		}
	}
	return writePage(c, "SecurityConfigurations", there, func(s *configuration) {
		c.Out.Str("Name", s.name)
		c.Out.Time("CreationDateTime", s.created)
	})
}

func describeConfiguration(c *core.Call) error {
	name := c.In.Str("Name")
	found := storeOf(c.Place).configuration(name, func(s *configuration) bool { return s.there.Seen(c.Now) })
	if found == nil {
		return noConfiguration(name)
	}
	c.Touch(name)
	c.Out.Str("Name", found.name)
	c.Out.Str("SecurityConfiguration", found.document)
	c.Out.Time("CreationDateTime", found.created)
	return nil
}

func noConfiguration(name string) error {
	return invalid("Security configuration with name '%s' does not exist.", name)
}

func createConfiguration(c *core.Call) error {
	name, document := c.In.Str("Name"), c.In.Str("SecurityConfiguration")
	var doc map[string]any
	switch {
	case name == "":
		return invalid("Name is required.")
	case json.Unmarshal([]byte(document), &doc) != nil:
		return invalid("Security configuration is not a valid JSON document.")
	case storeOf(c.Place).configuration(name, newest) != nil:
		return invalid("Security configuration with name '%s' already exists.", name)
	}
	if err := checkDocument(doc); err != nil {
		return err
	}
	made := &configuration{name: name, document: document, created: c.Now}
	made.there.Set(c.Now, c.World.Consistency(), true)
	s := storeOf(c.Place)
	s.configurations = append(s.configurations, made)
	c.Mutated(name)
	c.Out.Str("Name", name)
	c.Out.Time("CreationDateTime", c.Now)
	return nil
}

// checkDocument checks the part of a document that is about the metadata service: a version of 1 or 2, and a hop limit of
// 1 to 64.
func checkDocument(doc map[string]any) error {
	part, ok := doc["InstanceMetadataServiceConfiguration"]
	if !ok {
		return nil
	}
	fields, ok := part.(map[string]any)
	if !ok {
		return invalid("InstanceMetadataServiceConfiguration must be an object.")
	}
	for name, most := range map[string]float64{"MinimumInstanceMetadataServiceVersion": 2, "HttpPutResponseHopLimit": 64} {
		n, isNumber := fields[name].(float64)
		if _, given := fields[name]; given && (!isNumber || n < 1 || n > most || n != float64(int(n))) {
			return invalid("%s must be a number from 1 to %d.", name, int(most))
		}
	}
	return nil
}

func deleteConfiguration(c *core.Call) error {
	name := c.In.Str("Name")
	s := storeOf(c.Place)
	found := s.configuration(name, newest)
	if found == nil {
		return noConfiguration(name)
	}
	found.there.Set(c.Now, c.World.Consistency(), false)
	c.Mutated(name)
	return nil
}

func listClusters(c *core.Call) error {
	wanted := c.In.Strings("ClusterStates")
	for _, state := range wanted {
		if !slices.Contains(states, state) {
			return invalid("Cluster state '%s' is not valid.", state)
		}
	}
	after, _, err := c.In.Time("CreatedAfter")
	if err != nil {
		return invalid("CreatedAfter is not a time.")
	}
	before, bounded, err := c.In.Time("CreatedBefore")
	if err != nil {
		return invalid("CreatedBefore is not a time.")
	}
	var found []*cluster
	for _, cl := range storeOf(c.Place).clusters {
		if (len(wanted) == 0 || slices.Contains(wanted, cl.State)) && !cl.Created.Before(after) &&
			(!bounded || cl.Created.Before(before)) {
			found = append(found, cl)
		}
	}
	return writePage(c, "Clusters", found, func(cl *cluster) {
		c.Out.Str("Id", cl.ID)
		c.Out.Str("Name", cl.Name)
		writeStatus(c.Out, cl)
		c.Out.Int("NormalizedInstanceHours", 8)
		c.Out.Str("ClusterArn", clusterARN(c, cl.ID))
	})
}

func describeCluster(c *core.Call) error {
	cl := storeOf(c.Place).cluster(c.In.Str("ClusterId"))
	if cl == nil {
		return invalid("Cluster id '%s' is not valid.", c.In.Str("ClusterId"))
	}
	c.Touch(cl.ID)
	w := c.Out
	w.Struct("Cluster", func() {
		w.Str("Id", cl.ID)
		w.Str("Name", cl.Name)
		writeStatus(w, cl)
		w.Str("ReleaseLabel", cl.Release)
		w.Bool("AutoTerminate", false)
		w.Bool("TerminationProtected", false)
		w.Opt("SecurityConfiguration", cl.Configuration)
		w.Str("ClusterArn", clusterARN(c, cl.ID))
		w.List("Tags", func() {
			for _, key := range slices.Sorted(maps.Keys(cl.Tags)) {
				w.Struct("", func() {
					w.Str("Key", key)
					w.Str("Value", cl.Tags[key])
				})
			}
		})
	})
	return nil
}

func writeStatus(w *wire.Writer, cl *cluster) {
	w.Struct("Status", func() {
		w.Str("State", cl.State)
		w.Struct("StateChangeReason", func() {
			if strings.HasPrefix(cl.State, "TERMINATED") {
				w.Str("Code", "USER_REQUEST")
			}
		})
		w.Struct("Timeline", func() { w.Time("CreationDateTime", cl.Created) })
	})
}
