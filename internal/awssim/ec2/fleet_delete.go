package ec2

import (
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// forgetFleetAfter is how long EC2 shows a fleet that was deleted (EC2 User Guide, "EC2 Fleet request states": two days).
const forgetFleetAfter = 48 * time.Hour

// deleteFleets ends fleets, EC2 Fleets or Spot Fleet requests: what it can, and it tells of the rest.
func deleteFleets(c *core.Call) error {
	s := storeOf(c)
	spot := c.Action == "CancelSpotFleetRequests"
	parameter := map[bool]string{false: "FleetId", true: "SpotFleetRequestId"}[spot]
	ids := c.In.Strings(parameter)
	terminate, set, err := c.In.Bool("TerminateInstances")
	switch {
	case err != nil:
		return err
	case !set || len(ids) == 0:
		return wire.Errorf("MissingParameter", "The request must contain the parameters %s and TerminateInstances", parameter)
	}
	c.Touch(ids...)
	for _, id := range ids {
		if f := s.Fleet(id); f != nil && !spot && !terminate && f.state.Newest().kind() == fleetInstant {
			return wire.Errorf("NoTerminateInstancesNotSupported",
				"The instances of a fleet of type instant must be terminated with it.")
		}
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	var deleted []deletion
	failed := map[string]string{}
	for _, id := range ids {
		f, err := s.fleetFor(id, spot)
		switch {
		case err != nil:
			failed[id] = map[bool]string{false: "fleetIdDoesNotExist", true: "fleetRequestIdDoesNotExist"}[spot]
		case !f.state.Newest().works():
			failed[id] = map[bool]string{false: "fleetNotInDeletableState", true: "fleetRequestNotInCancellableState"}[spot]
		default:
			before := f.state.Newest().State
			s.endFleet(c.Now, f, terminate)
			deleted = append(deleted, deletion{id, before, f.state.Newest().State})
			c.Mutated(id)
		}
	}
	writeDeletions(c.Out, spot, ids, deleted, failed)
	return nil
}

// deletion is a fleet that was ended, with its states.
type deletion struct{ id, before, now string }

func writeDeletions(w *wire.Writer, spot bool, ids []string, deleted []deletion, failed map[string]string) {
	list, current, previous, idName, failures := "successfulFleetDeletionSet", "currentFleetState", "previousFleetState",
		"fleetId", "unsuccessfulFleetDeletionSet"
	if spot {
		list, current, previous, idName, failures = "successfulFleetRequestSet", "currentSpotFleetRequestState",
			"previousSpotFleetRequestState", "spotFleetRequestId", "unsuccessfulFleetRequestSet"
	}
	w.List(list, func() {
		for _, d := range deleted {
			w.Struct("", func() {
				w.Str(current, d.now)
				w.Str(previous, d.before)
				w.Str(idName, d.id)
			})
		}
	})
	w.List(failures, func() {
		for _, id := range ids {
			if code, ok := failed[id]; ok {
				writeDeletionError(w, idName, id, code)
			}
		}
	})
}

func writeDeletionError(w *wire.Writer, idName, id, code string) {
	w.Struct("", func() {
		w.Struct("error", func() {
			w.Str("code", code)
			w.Str("message", "The fleet '"+id+"' could not be deleted.")
		})
		w.Str(idName, id)
	})
}

// endFleet ends a fleet, and with it its instances, if it is told to.
func (s *Store) endFleet(now time.Time, f *Fleet, terminate bool) {
	state := f.ended() + "_running"
	if terminate {
		state = f.ended() + "_terminating"
	}
	s.updateFleet(now, f, func(st *fleetState) { st.State = state })
	if terminate {
		for len(f.members) > 0 {
			s.Terminate(now, f.members[0].instance.id)
		}
		s.place.After(now, s.place.World().Settle(), func(now time.Time) {
			s.updateFleet(now, f, func(st *fleetState) { st.State = f.ended() })
		})
	}
	s.place.After(now, forgetFleetAfter, func(now time.Time) { f.state.Set(now, 0, nil) })
}
