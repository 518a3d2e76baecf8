package elbv2

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// seedSection is the section "elasticloadbalancing" of a seed's region.
type seedSection struct {
	TargetGroups []TargetGroup `json:"target_groups"`
	// LoadBalancers may forward to the target groups. Classic ones are those of the first generation.
	LoadBalancers []Balancer `json:"load_balancers,omitempty"`
	Classic       []Classic  `json:"classic,omitempty"`
}

// Seed is the section as a program makes it.
type Seed = seedSection

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in seedSection
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	for n, g := range in.TargetGroups {
		if _, err := StoreOf(p).Put(g); err != nil {
			return fmt.Errorf("%s.target_groups[%d]: %w", path, n, err)
		}
	}
	return StoreOf(p).seedBalancers(&in, path)
}

// order is the body of the simulator's own POST /_sim/targets: it makes a target group or registers more with it, and
// sets the health of instances by hand (an empty state lets it follow what runs there again).
type order struct {
	Account     fleet.AccountID   `json:"account"`
	Region      fleet.Region      `json:"region"`
	TargetGroup TargetGroup       `json:"target_group"`
	Deregister  []string          `json:"deregister,omitempty"`
	Health      map[string]string `json:"health,omitempty"` // state by instance
}

func controls() map[string]func(*core.World, http.ResponseWriter, *http.Request) {
	return map[string]func(*core.World, http.ResponseWriter, *http.Request){
		"POST /_sim/targets": func(w *core.World, rw http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
			var in order
			if err == nil {
				err = core.DecodeStrict("targets", body, &in)
			}
			var arn string
			if err == nil {
				arn, err = carryOut(w, in)
			}
			if err != nil {
				http.Error(rw, strings.TrimSpace(err.Error()), http.StatusBadRequest)
				return
			}
			rw.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(rw).Encode(map[string]string{"target_group_arn": arn}) // a caller that left is no fault of the world's
		},
	}
}

func carryOut(w *core.World, in order) (arn string, err error) {
	p, err := w.Place(in.Account, in.Region)
	if err != nil {
		return "", err
	}
	p.With(func(time.Time) {
		s := StoreOf(p)
		if arn, err = s.Put(in.TargetGroup); err != nil {
			return
		}
		for _, id := range in.Deregister {
			s.Deregister(in.TargetGroup.Name, id)
		}
		for id, state := range in.Health {
			if err = s.Force(in.TargetGroup.Name, id, state); err != nil {
				return
			}
		}
	})
	return arn, err
}
