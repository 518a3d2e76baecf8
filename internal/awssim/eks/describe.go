package eks

import (
	"strconv"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

func listClusters(c *core.Call) error {
	for _, what := range c.In.Strings("include") {
		if what != "all" {
			return invalid("include: %q is not valid; want all", what)
		}
	}
	part, next, err := page(c, sorted(storeOf(c.Place).clusters))
	if err != nil {
		return err
	}
	c.Out.Strings("clusters", part)
	c.Out.Opt("nextToken", next)
	return nil
}

// clusterOf finds the cluster that a call names.
func clusterOf(c *core.Call) (*cluster, error) {
	name := c.In.Str("name")
	if cl := storeOf(c.Place).clusters[name]; cl != nil {
		c.Touch(name)
		return cl, nil
	}
	return nil, notFound("No cluster found for name: %s.", name)
}

func describeCluster(c *core.Call) error {
	cl, err := clusterOf(c)
	if err != nil {
		return err
	}
	c.Out.Struct("cluster", func() {
		c.Out.Str("name", cl.name)
		c.Out.Str("arn", cl.arn)
		c.Out.Time("createdAt", cl.created)
		c.Out.Str("version", cl.version)
		c.Out.Str("status", statusActive)
		c.Out.Str("platformVersion", "eks.1")
		writeTags(c.Out, "tags", cl.tags)
	})
	return nil
}

func listNodegroups(c *core.Call) error {
	cl, err := clusterOf(c)
	if err != nil {
		return err
	}
	part, next, err := page(c, sorted(cl.groups))
	if err != nil {
		return err
	}
	c.Out.Strings("nodegroups", part)
	c.Out.Opt("nextToken", next)
	return nil
}

// nodegroupOf finds the node group that a call names.
func nodegroupOf(c *core.Call) (*nodegroup, error) {
	cl, err := clusterOf(c)
	if err != nil {
		return nil, err
	}
	name := c.In.Str("nodegroupName")
	if g := cl.groups[name]; g != nil {
		c.Touch(cl.name + "/" + name)
		return g, nil
	}
	return nil, notFound("No node group found for name: %s.", name)
}

func describeNodegroup(c *core.Call) error {
	g, err := nodegroupOf(c)
	if err != nil {
		return err
	}
	st := g.state.Seen(c.Now)
	w := c.Out
	w.Struct("nodegroup", func() {
		w.Str("nodegroupName", g.name)
		w.Str("nodegroupArn", g.arn)
		w.Str("clusterName", g.cluster.name)
		w.Str("version", st.version)
		w.Str("releaseVersion", st.release)
		w.Time("createdAt", g.created)
		w.Time("modifiedAt", st.modified)
		w.Str("status", st.status)
		w.Str("capacityType", g.capacity)
		w.Struct("scalingConfig", func() {
			w.Int("minSize", int64(g.min))
			w.Int("maxSize", int64(g.max))
			w.Int("desiredSize", int64(g.desired))
		})
		if len(g.types) > 0 {
			w.Strings("instanceTypes", g.types)
		}
		w.Strings("subnets", g.subnets)
		w.Str("amiType", g.amiType)
		w.Str("nodeRole", g.role)
		writeTags(w, "labels", g.labels)
		w.Struct("resources", func() {
			w.List("autoScalingGroups", func() {
				if g.group != "" {
					w.Struct("", func() { w.Str("name", g.group) })
				}
			})
		})
		w.Struct("health", func() { w.List("issues", func() {}) })
		w.Struct("updateConfig", func() {
			if g.maxUnavailablePart > 0 {
				w.Int("maxUnavailablePercentage", int64(g.maxUnavailablePart))
			} else {
				w.Int("maxUnavailable", int64(g.maxUnavailable))
			}
		})
		if g.templateID != "" {
			w.Struct("launchTemplate", func() {
				w.Opt("name", g.templateName)
				w.Str("version", strconv.FormatInt(st.templateVersion, 10))
				w.Str("id", g.templateID)
			})
		}
		writeTags(w, "tags", g.tags)
	})
	return nil
}

func writeTags(w *wire.Writer, name string, tags map[string]string) {
	w.Struct(name, func() {
		for _, k := range sorted(tags) {
			w.Str(k, tags[k])
		}
	})
}

// update is a change of a node group that was accepted.
type update struct {
	id, status string
	params     [][2]string
	created    time.Time
	code, why  string // of its failure
	asked      string // the request, to tell a repeated one from another under the same token
}

// Update statuses.
const (
	updateInProgress = "InProgress"
	updateSuccessful = "Successful"
	updateFailed     = "Failed"
)

func (u *update) write(w *wire.Writer, group string) {
	w.Struct("update", func() {
		w.Str("id", u.id)
		w.Str("status", u.status)
		w.Str("type", "VersionUpdate")
		w.List("params", func() {
			for _, p := range u.params {
				w.Struct("", func() {
					w.Str("type", p[0])
					w.Str("value", p[1])
				})
			}
		})
		w.Time("createdAt", u.created)
		w.List("errors", func() {
			if u.code != "" {
				w.Struct("", func() {
					w.Str("errorCode", u.code)
					w.Str("errorMessage", u.why)
					w.Strings("resourceIds", []string{group})
				})
			}
		})
	})
}

// updatesOf are the updates that a call is about: a node group's, or the cluster's own, of which there are none here.
func updatesOf(c *core.Call) (*nodegroup, []*update, error) {
	if !c.In.Has("nodegroupName") {
		_, err := clusterOf(c)
		return nil, nil, err
	}
	g, err := nodegroupOf(c)
	if err != nil {
		return nil, nil, err
	}
	return g, g.updates, nil
}

func describeUpdate(c *core.Call) error {
	g, updates, err := updatesOf(c)
	if err != nil {
		return err
	}
	for _, u := range updates {
		if u.id == c.In.Str("updateId") {
			u.write(c.Out, g.name)
			return nil
		}
	}
	return notFound("No update found for ID: %s", c.In.Str("updateId"))
}

func listUpdates(c *core.Call) error {
	_, updates, err := updatesOf(c)
	if err != nil {
		return err
	}
	ids := map[string]bool{}
	for _, u := range updates {
		ids[u.id] = true
	}
	part, next, err := page(c, sorted(ids))
	if err != nil {
		return err
	}
	c.Out.Strings("updateIds", part)
	c.Out.Opt("nextToken", next)
	return nil
}
