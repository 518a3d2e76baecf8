// Package batch is the simulator's AWS Batch, as far as compute environments go: what they would launch instances from, and
// infrastructure updates, which are accepted at once and carried out later.
//
// It keeps environments and, for each, the template versions that Batch resolved when it last built the infrastructure:
// $Default and $Latest are read then and not again. There are no queues and no jobs, so no environment has instances; Launches
// tells what the next one would be launched from. Everything is kept by place and guarded by the place's lock.
package batch

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Name is IAM's prefix, the name in signatures, and that of the section in a seed.
const Name = "batch"

// mostListed is the largest and the default page, and the most environments that one call may name.
// https://docs.aws.amazon.com/batch/latest/APIReference/API_DescribeComputeEnvironments.html
const mostListed = 100

// Service declares Batch. It publishes no rates for these calls; the buckets are as large as EC2's.
func Service() *core.Service {
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.RESTJSON}, ThrottleCode: "TooManyRequestsException",
		Actions: map[string]core.Action{
			"DescribeComputeEnvironments": {
				Route: "POST /v1/describecomputeenvironments", Bucket: core.Bucket{Burst: 100, Refill: 20},
				Params: []string{"computeEnvironments", "maxResults", "nextToken"}, Handle: describe,
			},
			"UpdateComputeEnvironment": {
				Route: "POST /v1/updatecomputeenvironment", Bucket: core.BucketMutating, Mutating: true,
				Params: []string{"computeEnvironment", "state", "computeResources", "updatePolicy"},
				Access: accessUpdate, Handle: update,
			},
		},
		SeedPlace: seedPlace,
	}
}

// refuse is Batch's one error for whatever a caller asks for that cannot be.
func refuse(format string, args ...any) error {
	return wire.Errorf("ClientException", format, args...)
}

func accessUpdate(c *core.Call) []core.Access {
	name := short(c.In.Str("computeEnvironment"))
	a := core.Access{Resource: c.ARN(Name, "compute-environment/"+name)}
	if e := StoreOf(c.Place).environments[name]; e != nil {
		a.Condition = map[string][]string{}
		for k, v := range e.state.Newest().Tags {
			a.Condition["aws:resourcetag/"+k] = []string{v}
		}
	}
	return []core.Access{a}
}

// short is the name in an ARN, or the name that was given instead of one.
func short(nameOrARN string) string { return nameOrARN[strings.LastIndexByte(nameOrARN, '/')+1:] }

// describe lists environments by name, page by page, or those that are asked for; one that does not exist is left out.
func describe(c *core.Call) error {
	q, err := parseQuery(c.In)
	if err != nil {
		return err
	}
	s := StoreOf(c.Place)
	next, n, last := "", 0, ""
	c.Out.List("computeEnvironments", func() {
		for _, name := range s.names() {
			if name <= q.after || len(q.names) > 0 && !slices.Contains(q.names, name) {
				continue
			}
			if n == q.limit {
				next = base64.RawURLEncoding.EncodeToString([]byte(last))
				return
			}
			n, last = n+1, name
			c.Touch(name)
			c.Out.Struct("", func() { s.write(c.Out, name, s.environments[name].state.Seen(c.Now)) })
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

// query is what describe is asked for.
type query struct {
	names []string
	limit int
	after string
}

func parseQuery(in wire.Value) (query, error) {
	q := query{limit: mostListed}
	for _, name := range in.Strings("computeEnvironments") {
		q.names = append(q.names, short(name))
	}
	limit, set, err := in.Int("maxResults")
	if err != nil || set && (limit < 1 || limit > mostListed) || len(q.names) > mostListed {
		return q, refuse("Error executing request, Exception : at most %d compute environments can be described at a time", mostListed)
	}
	if set {
		q.limit = int(limit)
	}
	if token := in.Str("nextToken"); token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || len(b) == 0 {
			return q, refuse("Invalid nextToken")
		}
		q.after = string(b)
	}
	return q, nil
}

func (s *Store) write(w *wire.Writer, name string, e *Environment) {
	w.Str("computeEnvironmentName", name)
	w.Str("computeEnvironmentArn", s.arn(name))
	w.Opt("ecsClusterArn", e.Cluster)
	w.Struct("tags", func() {
		for _, k := range sortedKeys(e.Tags) {
			w.Str(k, e.Tags[k])
		}
	})
	w.Str("type", e.Type)
	w.Str("state", e.State)
	w.Str("status", e.Status)
	w.Opt("statusReason", e.StatusReason)
	if r := e.Resources; r != nil {
		w.Struct("computeResources", func() { writeResources(w, r) })
	}
	w.Str("serviceRole", e.ServiceRole)
	if p := e.UpdatePolicy; p != nil {
		w.Struct("updatePolicy", func() {
			w.Bool("terminateJobsOnUpdate", p.TerminateJobs)
			w.Int("jobExecutionTimeoutMinutes", int64(p.TimeoutMinutes))
		})
	}
	if e.EKSCluster != "" {
		w.Struct("eksConfiguration", func() {
			w.Str("eksClusterArn", e.EKSCluster)
			w.Str("kubernetesNamespace", "batch")
		})
	}
	w.Str("containerOrchestrationType", e.Orchestration)
	w.Str("uuid", uuidOf(s.arn(name)))
}

func writeResources(w *wire.Writer, r *Resources) {
	w.Str("type", r.Type)
	w.Opt("allocationStrategy", r.AllocationStrategy)
	w.Int("minvCpus", int64(r.MinVCPUs))
	w.Int("maxvCpus", int64(r.MaxVCPUs))
	w.Int("desiredvCpus", int64(r.MinVCPUs))
	w.Strings("instanceTypes", r.InstanceTypes)
	w.Strings("subnets", []string{"subnet-0123456789abcdef0"})
	w.Strings("securityGroupIds", []string{"sg-0123456789abcdef0"})
	w.Opt("instanceRole", r.InstanceRole)
	w.Struct("tags", func() {})
	if t := r.LaunchTemplate; t != nil {
		w.Struct("launchTemplate", func() {
			writeTemplate(w, t.TemplateRef)
			if len(t.Overrides) > 0 {
				w.List("overrides", func() {
					for _, o := range t.Overrides {
						w.Struct("", func() {
							writeTemplate(w, o.TemplateRef)
							w.Strings("targetInstanceTypes", o.InstanceTypes)
						})
					}
				})
			}
		})
	}
}

func writeTemplate(w *wire.Writer, t TemplateRef) {
	w.Opt("launchTemplateId", t.ID)
	w.Opt("launchTemplateName", t.Name)
	w.Opt("version", t.Version)
	w.Opt("userdataType", t.UserdataType)
}

// update changes an environment. A new launch template is an infrastructure update: the environment is UPDATING until its
// instances would have been replaced.
func update(c *core.Call) error {
	name := short(c.In.Str("computeEnvironment"))
	s := StoreOf(c.Place)
	e := s.environments[name]
	if e == nil {
		return refuse("%s does not exist", name)
	}
	was := e.state.Newest()
	if was.Status == StatusUpdating || was.Status == StatusDeleting {
		return refuse("Cannot update resource, resource is being modified")
	}
	next, infrastructure, err := was.updated(c.In)
	if err != nil {
		return err
	}
	if infrastructure {
		next.Status, next.StatusReason = StatusUpdating, "Infrastructure update in progress"
		s.finish(name, c.Now)
	}
	e.state.Set(c.Now, s.place.World().Consistency(), next)
	c.Mutated(name)
	c.Out.Str("computeEnvironmentName", name)
	c.Out.Str("computeEnvironmentArn", s.arn(name))
	return nil
}

// finish ends an infrastructure update once it has been carried out: Batch reads the versions anew, and an environment whose
// template is not there is INVALID.
func (s *Store) finish(name string, now time.Time) {
	s.place.After(now, s.place.World().Settle(), func(at time.Time) {
		e := s.environments[name]
		next := *e.state.Newest()
		next.Status, next.StatusReason = StatusValid, "ComputeEnvironment Healthy"
		if err := s.resolve(e, &next); err != nil {
			next.Status, next.StatusReason = StatusInvalid, "CLIENT_ERROR - "+err.Error()
		}
		e.state.Set(at, s.place.World().Consistency(), &next)
	})
}
