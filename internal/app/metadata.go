package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// InstanceMetadata is a scanned instance as the metadata service plays it: options, tags, image, type, addresses, and the role by the
// name that its account gives it. What a scan does not read (the zone, the subnet, user data) is made up there. The text says what of
// it is a guess, or is empty. No AWS call is made.
func (a *App) InstanceMetadata(ctx context.Context, id string) (imds.State, string, error) {
	db, err := a.database()
	if err != nil {
		return imds.State{}, "", err
	}
	places, err := db.Places(ctx)
	if err != nil {
		return imds.State{}, "", err
	}
	for _, p := range places {
		snap, err := db.Snapshot(ctx, p)
		if err != nil {
			return imds.State{}, "", err
		}
		at := slices.IndexFunc(snap.Resources, func(r inventory.Resource) bool { return r.Ref.Kind == inventory.KindInstance && r.Ref.ID == id })
		if at < 0 {
			continue
		}
		global, err := db.Snapshot(ctx, fleet.Place{Partition: p.Partition, Account: p.Account})
		if err != nil {
			return imds.State{}, "", err
		}
		state, guess := metadataOf(&snap.Resources[at], global)
		return state, guess, nil
	}
	return imds.State{}, "", fleet.Diagnostic{
		Severity: fleet.SeverityError, Where: id, Summary: "no scan has seen this instance",
		Remedy: "Scan its account and region first, or see `imdsctl resources --kind ec2-instance`.",
	}
}

func metadataOf(r *inventory.Resource, global *inventory.Snapshot) (state imds.State, guess string) {
	list := func(attr string) []string {
		return slices.DeleteFunc(strings.Split(r.Attrs[attr], ","), func(s string) bool { return s == "" })
	}
	first := func(attr string) string {
		if all := list(attr); len(all) > 0 {
			return all[0]
		}
		return ""
	}
	state = imds.State{
		Options: r.Options(), InstanceID: r.Ref.ID, InstanceType: r.Attrs[inventory.AttrInstanceType], ImageID: r.Attrs[inventory.AttrImage],
		Account: r.Ref.Account, Region: r.Ref.Region, Launched: r.Launched, Profile: r.Attrs[inventory.AttrProfile],
		LocalIPv4: first(inventory.AttrPrivateIPs), PublicIPv4: r.Attrs[inventory.AttrPublicIP], IPv6: first(inventory.AttrIPv6),
		GroupIDs: list(inventory.AttrSecurityGroups), ProductCodes: list(inventory.AttrProductCodes), Tags: r.Tags,
	}
	if state.Profile == "" {
		return state, ""
	}
	profile := state.Profile[strings.LastIndex(state.Profile, "/")+1:]
	for i := range global.Resources {
		g := &global.Resources[i]
		if g.Ref.Kind == inventory.KindRole && slices.Contains(strings.Split(g.Attrs[inventory.AttrProfiles], ","), profile) {
			state.Role = g.Ref.ID
			return state, ""
		}
	}
	state.Role = profile
	return state, fmt.Sprintf("the scan does not say which role the instance profile %s holds; the role is taken to have its name", profile)
}
