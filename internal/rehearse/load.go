package rehearse

import (
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// load puts one place, with the programs that its evidence tells of, into the simulated AWS.
func (s *stage) load(snap *inventory.Snapshot, windows map[fleet.Ref][]*evidence.Window, findings []evidence.Finding) error {
	seeders := Seeders()
	resources := make([]inventory.Resource, 0, len(snap.Resources))
	left := map[string]int{}
	for _, r := range snap.Resources {
		switch {
		case r.Status == inventory.StatusTerminated:
		case seeders[r.Ref.Kind] == nil:
			left[r.Ref.Kind]++
		default:
			resources = append(resources, r)
		}
	}
	for kind, n := range left {
		s.out.Assumed = append(s.out.Assumed, fmt.Sprintf("%d of kind %s in %s are not in the copy", n, kind, snap.Place))
	}
	account := core.AccountSeed{ID: snap.Place.Account, Name: snap.Account.Name, Partition: snap.Place.Partition,
		OptIn: regionsOf(s.opt.Plan.Stacks, snap.Place.Account)}
	seed, err := Seed(account, resources)
	if err != nil {
		return err
	}
	if len(seed.Services) > 0 { // it comes first, so that the other accounts find themselves in their units
		s.inUnits(seed, snap.Place.Account, resources)
	}
	if err := s.world.LoadSeed(seed); err != nil {
		return err
	}
	if err := s.world.PutRole(snap.Place.Account, roleName, core.TrustAccount(s.first(), ""), core.AllowActions("*")); err != nil {
		return err
	}
	return s.callers(snap, windows, findings)
}

// inUnits puts all accounts of the organization into the seed, each in its unit.
func (s *stage) inUnits(seed *core.Seed, management fleet.AccountID, policies []inventory.Resource) {
	seed.Organization = Organization(management, s.opt.Accounts, policies)
	seed.Accounts = nil
	for _, a := range s.opt.Accounts {
		account := core.AccountSeed{ID: a.ID, Name: a.Name, Partition: a.Partition, Tags: a.Tags, OptIn: regionsOf(s.opt.Plan.Stacks, a.ID)}
		if n := len(a.OUIDs); n > 0 {
			account.OU = a.OUIDs[n-1]
		}
		seed.Accounts = append(seed.Accounts, account)
	}
	for _, a := range append(others(management, policies), core.AccountSeed{ID: management}) {
		if !slices.ContainsFunc(seed.Accounts, func(have core.AccountSeed) bool { return have.ID == a.ID }) {
			seed.Accounts = append(seed.Accounts, a)
		}
	}
}

// first is the account that the rehearsal calls from.
func (s *stage) first() fleet.AccountID { return placesOf(s.opt.Plan)[0].Account }

// callers deploys a caller of IMDSv1 wherever one was seen: on the instance, or, since groups replace their instances, on all of
// its group. How often it calls, and whether only after a boot, is what the evidence shows.
func (s *stage) callers(snap *inventory.Snapshot, windows map[fleet.Ref][]*evidence.Window, findings []evidence.Finding) error {
	found := map[string]*caller{}
	// Calls that only other sources saw, because no metric was read or none exists.
	since := since(snap, windows)
	for i := range findings {
		if f := &findings[i]; f.What.Calls() && !f.Last.Before(since) {
			note(found, snap, f)
		}
	}
	for i := range snap.Resources {
		r := &snap.Resources[i]
		if r.Ref.Kind != inventory.KindInstance {
			continue
		}
		for _, w := range windows[r.Ref] {
			if w.Metric != evidence.MetricNoToken || w.Total == 0 {
				continue
			}
			name, where := standing(r)
			// Of several members the one that called most often speaks for all.
			if have := found[name]; have == nil || have.points < len(w.Points) {
				found[name] = &caller{where, callerOf(name, r, w), len(w.Points)}
			}
		}
	}
	for _, c := range found {
		if err := programs.Deploy(s.world, c.program, c.where); err != nil {
			return fmt.Errorf("the caller on %s: %w", c.program.Name, err)
		}
		s.out.Callers++
	}
	for i := range snap.Resources {
		r := &snap.Resources[i]
		if name, _ := standing(r); r.Ref.Kind == inventory.KindInstance && found[name] != nil {
			s.calling[r.Ref] = true
			for _, l := range r.Links {
				s.calling[l.To] = true
			}
		}
	}
	return nil
}

// caller is a program that is to be deployed. points is in how many periods it was seen.
type caller struct {
	where   workload.Where
	program workload.Program
	points  int
}

// standing is who stands for an instance: its group, which replaces it, or else itself.
func standing(r *inventory.Resource) (name string, where workload.Where) {
	if l, ok := r.Link(inventory.MemberOf); ok {
		return l.To.ID, membersOf(l.To)
	}
	return r.Ref.ID, workload.Where{Instances: []string{r.Ref.ID}}
}

// since is when the window of the evidence began; the scan's time where there is none.
func since(snap *inventory.Snapshot, windows map[fleet.Ref][]*evidence.Window) time.Time {
	for _, ws := range windows {
		if len(ws) > 0 {
			return ws[0].Span.Start
		}
	}
	return snap.Taken
}

// note adds the caller that a finding tells of to whatever the finding is about. Findings count by day: it calls evenly over the
// day, at most once an hour.
func note(found map[string]*caller, snap *inventory.Snapshot, f *evidence.Finding) {
	rounds := min(max(f.Count, 1), 24)
	for i := range snap.Resources {
		r := &snap.Resources[i]
		if r.Ref.Kind != inventory.KindInstance || r.Status == inventory.StatusTerminated || !f.Subject.Covers(r, assess.RoleNames) {
			continue
		}
		name, where := standing(r)
		if found[name] == nil {
			found[name] = &caller{where: where, program: workload.Program{Name: "caller on " + name, Speaks: workload.V1Only,
				Calls: int(min(max(f.Count/rounds, 1), 1_000_000)), Every: (24 * time.Hour / time.Duration(rounds)).Truncate(time.Second)}}
		}
	}
}

// membersOf are the instances of a group, or those that carry the tag of a fleet.
func membersOf(group fleet.Ref) workload.Where {
	where := workload.Where{Account: string(group.Account)}
	switch group.Kind {
	case inventory.KindFleet:
		where.Tags = []string{"aws:ec2:fleet-id=" + group.ID}
	case inventory.KindSpotFleet:
		where.Tags = []string{"aws:ec2spot:fleet-request-id=" + group.ID}
	default:
		where.Groups = []string{group.ID}
	}
	return where
}

// bootPeriods is how many periods after a start count as its boot.
const bootPeriods = 2

// callerOf is the program that would have been seen like this.
func callerOf(name string, r *inventory.Resource, w *evidence.Window) workload.Program {
	p := workload.Program{Name: "caller on " + name, Speaks: workload.V1Only, Calls: int(min(max(w.Total/int64(len(w.Points)), 1), 1_000_000))}
	boot := w.Span.Slot(r.Launched)
	onlyAtBoot := w.Span.Contains(r.Launched) && !slices.ContainsFunc(w.Points, func(p evidence.Point) bool {
		return p.Slot < boot || p.Slot >= boot+bootPeriods
	})
	if onlyAtBoot {
		p.AtBoot = true
		return p
	}
	covered := time.Duration(max(w.Covered.Count(), 1)) * w.Span.Period
	p.Every = max(covered/time.Duration(len(w.Points)), w.Span.Period).Truncate(time.Second)
	return p
}

// regionsOf lists the regions in which a plan changes an account, so that those are enabled which are not by default.
func regionsOf(stacks []plan.Stack, account fleet.AccountID) []fleet.Region {
	var out []fleet.Region
	for i := range stacks {
		if r := stacks[i].Place.Region; stacks[i].Place.Account == account && r != "" && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}
