package ecs

import (
	"slices"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// clusterName is the cluster that a call is about.
func clusterName(c *core.Call) string {
	if name := c.In.Str("cluster"); name != "" {
		return short(name)
	}
	return defaultCluster
}

func clusterOf(c *core.Call) (*cluster, error) {
	if found := StoreOf(c.Place).clusters[clusterName(c)]; found != nil {
		return found, nil
	}
	return nil, wire.Errorf("ClusterNotFoundException", "Cluster not found.")
}

func listClusters(c *core.Call) error {
	p, err := pageOf(c, mostListed)
	if err != nil {
		return err
	}
	s := StoreOf(c.Place)
	part, next := cut(p, s.clusterNames(), func(n string) string { return n })
	c.Out.List("clusterArns", func() {
		for _, name := range part {
			c.Out.Str("", s.arn("cluster", name))
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

func describeClusters(c *core.Call) error {
	names := c.In.Strings("clusters")
	if len(names) > mostDescribed {
		return invalid("clusters cannot have more than %d elements.", mostDescribed)
	}
	if len(names) == 0 {
		names = []string{defaultCluster}
	}
	s := StoreOf(c.Place)
	var missing []string
	c.Out.List("clusters", func() {
		for _, name := range names {
			found := s.clusters[short(name)]
			if found == nil {
				missing = append(missing, s.arn("cluster", short(name)))
				continue
			}
			c.Touch(found.Name)
			c.Out.Struct("", func() { writeCluster(c, s, found) })
		}
	})
	writeFailures(c.Out, missing)
	return nil
}

func writeCluster(c *core.Call, s *Store, found *cluster) {
	w := c.Out
	w.Str("clusterArn", s.arn("cluster", found.Name))
	w.Str("clusterName", found.Name)
	w.Str("status", "ACTIVE")
	w.Int("registeredContainerInstancesCount", int64(len(s.registered(found))))
	w.Int("runningTasksCount", int64(len(s.running(found))))
	w.Int("pendingTasksCount", 0)
	w.Int("activeServicesCount", 0)
	w.List("statistics", func() {})
	w.List("settings", func() {})
	w.Strings("capacityProviders", found.CapacityProviders)
	w.List("defaultCapacityProviderStrategy", func() {})
	if includes(c, "TAGS") {
		writeTags(w, found.Tags)
	} else {
		writeTags(w, nil)
	}
}

func listInstances(c *core.Call) error {
	p, err := pageOf(c, mostListed)
	if err != nil {
		return err
	}
	cl, err := clusterOf(c)
	if err != nil {
		return err
	}
	s := StoreOf(c.Place)
	all := s.registered(cl)
	if status := c.In.Str("status"); status != "" {
		all = slices.DeleteFunc(all, func(i *instance) bool { return i.Status != status })
	}
	part, next := cut(p, all, func(i *instance) string { return i.ID })
	c.Out.List("containerInstanceArns", func() {
		for _, i := range part {
			c.Out.Str("", s.arn("container-instance", cl.Name+"/"+i.ID))
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

func describeInstances(c *core.Call) error {
	cl, err := clusterOf(c)
	if err != nil {
		return err
	}
	ids, err := asked(c, "containerInstances")
	if err != nil {
		return err
	}
	s := StoreOf(c.Place)
	all := s.registered(cl)
	var missing []string
	c.Out.List("containerInstances", func() {
		for _, id := range ids {
			at := slices.IndexFunc(all, func(i *instance) bool { return i.ID == short(id) })
			if at < 0 {
				missing = append(missing, s.arn("container-instance", cl.Name+"/"+short(id)))
				continue
			}
			c.Touch(all[at].ID)
			c.Out.Struct("", func() { writeInstance(c, s, cl, all[at]) })
		}
	})
	writeFailures(c.Out, missing)
	return nil
}

func writeInstance(c *core.Call, s *Store, cl *cluster, i *instance) {
	w := c.Out
	w.Str("containerInstanceArn", s.arn("container-instance", cl.Name+"/"+i.ID))
	w.Str("ec2InstanceId", i.Instance)
	w.Opt("capacityProviderName", i.CapacityProvider)
	w.Int("version", 3)
	w.Struct("versionInfo", func() {
		w.Str("agentVersion", "1.94.0")
		w.Str("dockerVersion", "DockerVersion: 25.0.8")
	})
	w.List("remainingResources", func() {})
	w.List("registeredResources", func() {})
	w.Str("status", i.Status)
	w.Bool("agentConnected", true)
	w.Int("runningTasksCount", int64(len(i.tasks)))
	w.Int("pendingTasksCount", 0)
	w.List("attributes", func() {})
	w.List("attachments", func() {})
	if includes(c, "TAGS") {
		writeTags(w, i.Tags)
	} else {
		writeTags(w, nil)
	}
}
