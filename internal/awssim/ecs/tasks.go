package ecs

import (
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

func listTasks(c *core.Call) error {
	p, err := pageOf(c, mostListed)
	if err != nil {
		return err
	}
	cl, err := clusterOf(c)
	if err != nil {
		return err
	}
	s := StoreOf(c.Place)
	on, launch, family := c.In.Str("containerInstance"), c.In.Str("launchType"), c.In.Str("family")
	all := slices.DeleteFunc(s.running(cl), func(t *task) bool {
		return on != "" && (t.on == nil || t.on.ID != short(on)) || launch != "" && t.LaunchType != launch ||
			family != "" && familyOf(t.Definition) != family
	})
	if status := c.In.Str("desiredStatus"); status != "" && status != statusRunning {
		all = nil // what a seed holds, runs
	}
	part, next := cut(p, all, func(t *task) string { return t.ID })
	c.Out.List("taskArns", func() {
		for _, t := range part {
			c.Out.Str("", s.arn("task", cl.Name+"/"+t.ID))
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

const statusRunning = "RUNNING"

func familyOf(definition string) string {
	family, _, _ := strings.Cut(definition, ":")
	return family
}

func describeTasks(c *core.Call) error {
	cl, err := clusterOf(c)
	if err != nil {
		return err
	}
	ids, err := asked(c, "tasks")
	if err != nil {
		return err
	}
	s := StoreOf(c.Place)
	all := s.running(cl)
	var missing []string
	c.Out.List("tasks", func() {
		for _, id := range ids {
			at := slices.IndexFunc(all, func(t *task) bool { return t.ID == short(id) })
			if at < 0 {
				missing = append(missing, s.arn("task", cl.Name+"/"+short(id)))
				continue
			}
			c.Touch(all[at].ID)
			c.Out.Struct("", func() { writeTask(c.Out, s, cl, all[at]) })
		}
	})
	writeFailures(c.Out, missing)
	return nil
}

func writeTask(w *wire.Writer, s *Store, cl *cluster, t *task) {
	w.List("attachments", func() {})
	w.List("attributes", func() {})
	w.Str("clusterArn", s.arn("cluster", cl.Name))
	if t.on != nil {
		w.Str("containerInstanceArn", s.arn("container-instance", cl.Name+"/"+t.on.ID))
		w.Opt("capacityProviderName", t.on.CapacityProvider)
	}
	w.List("containers", func() {})
	w.Str("desiredStatus", statusRunning)
	w.Str("group", "family:"+familyOf(t.Definition))
	w.Str("lastStatus", statusRunning)
	w.Str("launchType", t.LaunchType)
	w.Struct("overrides", func() {
		w.List("containerOverrides", func() {})
		w.Opt("taskRoleArn", t.TaskRoleARN)
	})
	w.Str("taskArn", s.arn("task", cl.Name+"/"+t.ID))
	w.Str("taskDefinitionArn", s.arn("task-definition", t.Definition))
	w.List("tags", func() {})
	w.Int("version", 2)
}

// describeDefinition gives one revision of a task definition, the latest where none is named.
func describeDefinition(c *core.Call) error {
	s := StoreOf(c.Place)
	name := short(c.In.Str("taskDefinition"))
	if name == "" {
		return invalid("taskDefinition cannot be empty.")
	}
	if !strings.Contains(name, ":") {
		name += ":" + strconv.Itoa(s.latest[name])
	}
	d, there := s.definitions[name]
	if !there {
		return wire.Errorf("ClientException", "Unable to describe task definition.")
	}
	c.Touch(name)
	w := c.Out
	w.Struct("taskDefinition", func() {
		w.Str("taskDefinitionArn", s.arn("task-definition", name))
		w.List("containerDefinitions", func() {
			w.Struct("", func() {
				w.Str("name", d.Family)
				w.Str("image", "public.ecr.aws/docker/library/busybox:latest")
				w.Bool("essential", true)
			})
		})
		w.Str("family", d.Family)
		w.Opt("taskRoleArn", d.TaskRoleARN)
		w.Opt("networkMode", d.NetworkMode)
		w.Int("revision", int64(d.Revision))
		w.List("volumes", func() {})
		w.Str("status", "ACTIVE")
		w.List("placementConstraints", func() {})
		if d.OperatingSystem != "" {
			w.Struct("runtimePlatform", func() { w.Str("operatingSystemFamily", d.OperatingSystem) })
		}
	})
	w.List("tags", func() {})
	return nil
}
