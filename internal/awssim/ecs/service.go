// Package ecs is the simulator's Elastic Container Service, as far as reading goes: clusters, the container instances that are
// registered with them, the tasks that run there with their task definitions, and capacity providers.
//
// It keeps what a seed says. A container instance whose EC2 instance is terminated is deregistered with its tasks; nothing is
// placed, started or stopped. The SDK for Go and botocore both speak awsJson1_1 here.
package ecs

import (
	"encoding/base64"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Name is IAM's prefix, the name in signatures, and that of the section in a seed.
const Name = "ecs"

// Most that one call lists or describes.
// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Operations.html
const (
	mostListed    = 100
	mostDescribed = 100
	mostProviders = 10
)

// Service declares ECS.
//
// Its rates are published by groups of actions ("Request throttling for the Amazon ECS API"); here every action has a bucket of
// its own, which is small.
func Service() *core.Service {
	read := func(handle func(*core.Call) error, access func(*core.Call) []core.Access, params ...string) core.Action {
		return core.Action{Bucket: core.Bucket{Burst: 20, Refill: 10}, Params: params, Access: access, Handle: handle}
	}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.JSON11}, Targets: []string{"AmazonEC2ContainerServiceV20141113"},
		Actions: map[string]core.Action{
			"ListClusters":           read(listClusters, nil, "maxResults", "nextToken"),
			"DescribeClusters":       read(describeClusters, accessClusters, "clusters", "include"),
			"ListContainerInstances": read(listInstances, accessCluster, "cluster", "status", "maxResults", "nextToken"),
			"DescribeContainerInstances": read(describeInstances, accessItems("container-instance", "containerInstances"),
				"cluster", "containerInstances", "include"),
			"DescribeCapacityProviders": read(describeProviders, nil, "capacityProviders", "cluster", "include", "maxResults",
				"nextToken"),
			"ListTasks": read(listTasks, nil, "cluster", "containerInstance", "desiredStatus", "launchType", "family", "maxResults",
				"nextToken"),
			"DescribeTasks":          read(describeTasks, accessItems("task", "tasks"), "cluster", "tasks", "include"),
			"DescribeTaskDefinition": read(describeDefinition, nil, "taskDefinition", "include"),
		},
		SeedPlace: seedPlace,
	}
}

func invalid(format string, args ...any) error {
	return wire.Errorf("InvalidParameterException", format, args...)
}

// accessClusters needs every cluster that is asked for.
func accessClusters(c *core.Call) []core.Access {
	names := c.In.Strings("clusters")
	if len(names) == 0 {
		names = []string{defaultCluster}
	}
	out := make([]core.Access, len(names))
	for i, n := range names {
		out[i].Resource = c.ARN(Name, "cluster/"+short(n))
	}
	return out
}

func accessCluster(c *core.Call) []core.Access {
	return []core.Access{{Resource: c.ARN(Name, "cluster/"+clusterName(c))}}
}

// accessItems needs everything that is asked for of one cluster.
func accessItems(kind, param string) func(*core.Call) []core.Access {
	return func(c *core.Call) []core.Access {
		var out []core.Access
		for _, id := range c.In.Strings(param) {
			out = append(out, core.Access{
				Resource:  c.ARN(Name, kind+"/"+clusterName(c)+"/"+short(id)),
				Condition: map[string][]string{"ecs:cluster": {c.ARN(Name, "cluster/"+clusterName(c))}},
			})
		}
		return out
	}
}

// short is the last part of an ARN, or the name that was given instead of one.
func short(nameOrARN string) string { return nameOrARN[strings.LastIndexByte(nameOrARN, '/')+1:] }

// page is one page of something that is listed by its names, in order.
type page struct {
	size  int
	after string
}

func pageOf(c *core.Call, most int) (page, error) {
	p := page{size: most}
	n, set, err := c.In.Int("maxResults")
	if err != nil || set && (n < 1 || n > int64(most)) {
		return p, invalid("maxResults must be between 1 and %d", most)
	}
	if set {
		p.size = int(n)
	}
	if token := c.In.Str("nextToken"); token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || len(b) == 0 {
			return p, invalid("Invalid token.")
		}
		p.after = string(b)
	}
	return p, nil
}

// cut takes the page's part of what is listed; next is the token of the following page, empty on the last.
func cut[T any](p page, all []T, name func(T) string) (part []T, next string) {
	for _, v := range all {
		if name(v) <= p.after {
			continue
		}
		if len(part) == p.size {
			return part, base64.RawURLEncoding.EncodeToString([]byte(name(part[len(part)-1])))
		}
		part = append(part, v)
	}
	return part, ""
}

// asked are the names a Describe call asks for, with their number checked.
func asked(c *core.Call, param string) ([]string, error) {
	ids := c.In.Strings(param)
	switch {
	case len(ids) == 0:
		return nil, invalid("%s cannot be empty.", param)
	case len(ids) > mostDescribed:
		return nil, invalid("%s cannot have more than %d elements.", param, mostDescribed)
	}
	return ids, nil
}

// includes tells whether a Describe call asks for a part that is left out otherwise.
func includes(c *core.Call, part string) bool {
	for _, p := range c.In.Strings("include") {
		if p == part {
			return true
		}
	}
	return false
}

func writeFailures(w *wire.Writer, arns []string) {
	w.List("failures", func() {
		for _, arn := range arns {
			w.Struct("", func() {
				w.Str("arn", arn)
				w.Str("reason", "MISSING")
			})
		}
	})
}

func writeTags(w *wire.Writer, tags map[string]string) {
	w.List("tags", func() {
		for _, k := range sortedKeys(tags) {
			w.Struct("", func() {
				w.Str("key", k)
				w.Str("value", tags[k])
			})
		}
	})
}
