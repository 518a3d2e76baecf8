// Package eks is the simulator's Amazon EKS: clusters and their managed node groups, which are updated to another version of
// their launch template, of Kubernetes or of the node image.
//
// It owns clusters, node groups and updates. The nodes are those of an Auto Scaling group, which the simulated Auto Scaling
// keeps and whose name a seed gives; a node group of a person's template launches from EKS's own copy of it, as AWS's does. An
// update is accepted at once and carried out by events of the place: a new version of the copy, then the nodes one after the
// other, and only at its end does the node group read as updated. Nothing of Kubernetes is here.
package eks

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Name is the service's name, and that of its section in a seed's region.
const Name = "eks"

// Service declares EKS. It publishes no rates; the buckets are of a size that a client without a limit of its own meets.
func Service() *core.Service {
	read, write := core.Bucket{Burst: 50, Refill: 10}, core.Bucket{Burst: 10, Refill: 1}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.RESTJSON},
		Actions: map[string]core.Action{
			"ListClusters": {
				Route: "GET /clusters?include[]&maxResults&nextToken", Params: []string{"include", "maxResults", "nextToken"},
				Bucket: read, Handle: listClusters,
			},
			"DescribeCluster": {
				Route: "GET /clusters/{name}", Params: []string{"name"}, Bucket: read, Access: accessCluster,
				Handle: describeCluster,
			},
			"ListNodegroups": {
				Route: "GET /clusters/{name}/node-groups?maxResults&nextToken", Params: []string{"name", "maxResults", "nextToken"},
				Bucket: read, Access: accessCluster, Handle: listNodegroups,
			},
			"DescribeNodegroup": {
				Route: "GET /clusters/{name}/node-groups/{nodegroupName}", Params: []string{"name", "nodegroupName"},
				Bucket: read, Access: accessNodegroup, Handle: describeNodegroup,
			},
			"UpdateNodegroupVersion": {
				Route: "POST /clusters/{name}/node-groups/{nodegroupName}/update-version", Mutating: true, Bucket: write,
				Params: []string{
					"name", "nodegroupName", "version", "releaseVersion", "launchTemplate", "force", "clientRequestToken",
				},
				Access: accessUpdate, Handle: updateVersion,
			},
			"DescribeUpdate": {
				Route:  "GET /clusters/{name}/updates/{updateId}?nodegroupName",
				Params: []string{"name", "updateId", "nodegroupName"}, Bucket: read, Access: accessNodegroup,
				Handle: describeUpdate,
			},
			"ListUpdates": {
				Route:  "GET /clusters/{name}/updates?nodegroupName&maxResults&nextToken",
				Params: []string{"name", "nodegroupName", "maxResults", "nextToken"}, Bucket: read, Access: accessNodegroup,
				Handle: listUpdates,
			},
		},
		SeedPlace: seedPlace,
	}
}

func accessCluster(c *core.Call) []core.Access {
	return []core.Access{{Resource: c.ARN(Name, "cluster/"+c.In.Str("name"))}}
}

// accessNodegroup is the node group that a call names, else the cluster.
func accessNodegroup(c *core.Call) []core.Access {
	name := c.In.Str("nodegroupName")
	if name == "" {
		return accessCluster(c)
	}
	if g := storeOf(c.Place).nodegroup(c.In.Str("name"), name); g != nil {
		return []core.Access{{Resource: g.arn}}
	}
	return []core.Access{{Resource: c.ARN(Name, "nodegroup/"+c.In.Str("name")+"/"+name+"/*")}}
}

// accessUpdate needs a launch as well where a template is named: EKS refuses callers who could not launch from it (EKS user
// guide, "Customize managed nodes with launch templates").
func accessUpdate(c *core.Call) []core.Access {
	out := accessNodegroup(c)
	if c.In.Has("launchTemplate") {
		from := c.In.Get("launchTemplate")
		out = append(out, ec2.AccessToLaunch(c, cmp.Or(from.Str("id"), from.Str("name")), from.Str("version"))...)
	}
	return out
}

func invalid(format string, args ...any) error {
	return wire.Errorf("InvalidParameterException", format, args...)
}

func notFound(format string, args ...any) error {
	e := wire.Errorf("ResourceNotFoundException", format, args...)
	e.Status = http.StatusNotFound
	return e
}

// mostResults is the largest page of all lists, and the usual one.
const mostResults = 100

// page gives the part of names that a call asks for, and the token of the next one.
func page(c *core.Call, names []string) (part []string, next string, err error) {
	size, set, err := c.In.Int("maxResults")
	if err != nil || set && (size < 1 || size > mostResults) {
		return nil, "", invalid("maxResults must be a number from 1 to %d", mostResults)
	}
	if !set {
		size = mostResults
	}
	if token := c.In.Str("nextToken"); token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		after, ok := strings.CutPrefix(string(b), c.Action+" ")
		if err != nil || !ok {
			return nil, "", invalid("nextToken %q is not valid", token)
		}
		for len(names) > 0 && names[0] <= after {
			names = names[1:]
		}
	}
	if int64(len(names)) <= size {
		return names, "", nil
	}
	names = names[:size]
	return names, base64.RawURLEncoding.EncodeToString([]byte(c.Action + " " + names[size-1])), nil
}
