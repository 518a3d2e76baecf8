package programs

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Broken is a program that is broken on an instance.
type Broken struct {
	Account   fleet.AccountID `json:"account"`
	Region    fleet.Region    `json:"region"`
	Instance  string          `json:"instance"`
	Group     string          `json:"group,omitempty"`
	Program   string          `json:"program"`
	Agent     string          `json:"agent,omitempty"`
	Version   string          `json:"version,omitempty"`
	Since     time.Time       `json:"since"`
	Reason    workload.Reason `json:"reason"`
	Why       string          `json:"why"`
	Essential bool            `json:"essential,omitempty"`
	Impaired  bool            `json:"impaired,omitempty"`
}

// Report is the health of everything that runs in a world.
type Report struct {
	Now       time.Time `json:"now"`
	Instances int       `json:"instances"` // running
	Broken    []Broken  `json:"broken"`
}

// Health looks at all running instances of a world.
func Health(w *core.World) Report {
	r := Report{Now: w.Now(), Broken: []Broken{}}
	for _, p := range w.Places() {
		if p.Region == "" {
			continue
		}
		p.View(func(now time.Time) {
			for i := range ec2.StoreOf(p).Instances() {
				h := HostOf(p, i)
				if !h.Life.RunningAt(now.Unix()) {
					continue
				}
				r.Instances++
				for _, f := range h.Faults(now.Unix()) {
					r.Broken = append(r.Broken, Broken{
						Account: p.Account, Region: p.Region, Instance: i.ID(), Group: autoscaling.StoreOf(p).GroupOf(i.ID()),
						Program: f.Program.Name, Agent: f.Program.Agent, Version: f.Program.Version, Since: f.Since,
						Reason: f.Reason, Why: f.Why, Essential: f.Program.Essential, Impaired: f.Impaired,
					})
				}
			}
		})
	}
	slices.SortStableFunc(r.Broken, func(a, b Broken) int { return a.Since.Compare(b.Since) })
	return r
}

// Scale sets the desired capacity of a group and lets it act at once.
func Scale(w *core.World, place fleet.Place, group string, desired int) error {
	p, err := w.Place(place.Account, place.Region)
	if err != nil {
		return fmt.Errorf("scaling %s: %w", group, err)
	}
	p.With(func(now time.Time) { err = autoscaling.StoreOf(p).SetDesired(group, now, desired) })
	if err != nil {
		return fmt.Errorf("scaling %s in %s: %w", group, place, err)
	}
	return nil
}

// Terminate ends an instance as if its owner had, and lets its group replace it.
func Terminate(w *core.World, place fleet.Place, instance string) error {
	p, err := w.Place(place.Account, place.Region)
	if err != nil {
		return fmt.Errorf("terminating %s: %w", instance, err)
	}
	p.With(func(now time.Time) {
		if ec2.StoreOf(p).Instance(instance) == nil {
			err = fmt.Errorf("terminating %s in %s: no such instance", instance, place)
			return
		}
		ec2.StoreOf(p).Terminate(now, instance)
		if group := autoscaling.StoreOf(p).GroupOf(instance); group != "" {
			err = autoscaling.StoreOf(p).Act(group, now)
		}
	})
	return err
}

// controls are the routes of the simulator's own.
func controls() map[string]func(*core.World, http.ResponseWriter, *http.Request) {
	return map[string]func(*core.World, http.ResponseWriter, *http.Request){
		"GET /_sim/health": func(w *core.World, rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(rw).Encode(Health(w)) // a caller that has gone away is no fault of the world's
		},
		"POST /_sim/scale":     serveScale,
		"POST /_sim/terminate": serveTerminate,
		"POST /_sim/programs":  serveDeploy,
	}
}

// order is the body of /_sim/scale and /_sim/terminate.
type order struct {
	Account  fleet.AccountID `json:"account"`
	Region   fleet.Region    `json:"region"`
	Group    string          `json:"group,omitempty"`
	Desired  int             `json:"desired,omitempty"`
	Instance string          `json:"instance,omitempty"`
}

func serveScale(w *core.World, rw http.ResponseWriter, r *http.Request) {
	serveOrder(rw, r, "scale", func(o order) error {
		return Scale(w, fleet.Place{Account: o.Account, Region: o.Region}, o.Group, o.Desired)
	})
}

func serveTerminate(w *core.World, rw http.ResponseWriter, r *http.Request) {
	serveOrder(rw, r, "terminate", func(o order) error {
		return Terminate(w, fleet.Place{Account: o.Account, Region: o.Region}, o.Instance)
	})
}

// serveDeploy puts one more program on the fleet; the body is an element of the seed's programs.
func serveDeploy(w *core.World, rw http.ResponseWriter, r *http.Request) {
	serveOrder(rw, r, "program", func(s seedProgram) error {
		p, err := s.program()
		if err != nil {
			return err
		}
		return Deploy(w, p, s.Where)
	})
}

func serveOrder[T any](rw http.ResponseWriter, r *http.Request, what string, carryOut func(T) error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	var in T
	if err == nil {
		err = core.DecodeStrict(what, body, &in)
	}
	if err == nil {
		err = carryOut(in)
	}
	if err != nil {
		http.Error(rw, strings.TrimSpace(err.Error()), http.StatusBadRequest)
		return
	}
	rw.WriteHeader(http.StatusNoContent)
}
