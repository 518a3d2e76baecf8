package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// check reports what no single key shows: keys that contradict each other. It runs on the completed configuration, also
// where keys were bad, and keeps quiet about what a reported problem has already made doubtful.
func (c *Config) check(d *decoder) {
	c.checkAccounts(d)
	c.checkRoles(d)
	c.checkRegions(d)
	c.checkWaves(d)
	c.checkEvidence(d)
	c.checkWindows(d)
	c.checkFreezes(d)
	c.checkGates(d)
	c.checkFollowUps(d)
	c.checkAttention(d)
}

func (c *Config) checkAccounts(d *decoder) {
	first := map[fleet.AccountID]int{}
	for i, a := range c.Accounts {
		path := fmt.Sprintf("accounts[%d].id", i)
		if j, ok := first[a.ID]; ok && a.ID != "" {
			d.problemAt(path, fmt.Sprintf("account %s is already at %s", a.ID, c.Accounts[j].Where),
				"Merge the two entries.")
			continue
		}
		first[a.ID] = i
	}
	o := c.Organization
	if d.broken("organization.discover") || d.broken("accounts") {
		return
	}
	if o.Discover == DiscoverList && len(c.Accounts) == 0 {
		d.problemAt("organization.discover", "organization.discover is `list`, but no accounts are listed",
			"List them under `accounts`, or discover `organizations` or `self`.")
	}
	if o.Discover == DiscoverSelf && o.ManagementRole != "" {
		d.problemAt("organization.management_role", "a management role has no use with discover `self`",
			"Remove it, or discover `organizations`.")
	}
}

// checkRoles refuses an ARN that would send every account to a role of one of them.
func (c *Config) checkRoles(d *decoder) {
	o := c.Organization
	c.checkPartition(d, "organization.management_role", o.ManagementRole)
	for _, r := range []struct{ path, role string }{
		{"organization.role.read", o.Role.Read}, {"organization.role.write", o.Role.Write},
	} {
		path, role := r.path, r.role
		c.checkPartition(d, path, role)
		parts := strings.SplitN(role, ":", 6)
		if len(parts) < 6 || parts[4] == accountPlaceholder || c.only(fleet.AccountID(parts[4])) {
			continue
		}
		d.problemAt(path, fmt.Sprintf("%s names a role of account %s, but other accounts are entered as well", path,
			parts[4]),
			fmt.Sprintf("Write %s in place of %s, or only the role's name.", accountPlaceholder, parts[4]))
	}
}

// only tells whether the account may be the only one that is entered.
func (c *Config) only(id fleet.AccountID) bool {
	if c.Organization.Discover == DiscoverSelf {
		return true
	}
	other := func(a Account) bool { return a.ID != id && a.Skip == "" }
	return c.Organization.Discover == DiscoverList && !slices.ContainsFunc(c.Accounts, other)
}

func (c *Config) checkPartition(d *decoder, path, arn string) {
	p := c.Organization.Partition
	if parts := strings.SplitN(arn, ":", 3); len(parts) == 3 && p != "" && parts[1] != string(p) {
		d.problemAt(path, fmt.Sprintf("%s is in the partition %s, not in %s", path, parts[1], p),
			"Correct the ARN or `organization.partition`.")
	}
}

func (c *Config) checkRegions(d *decoder) {
	o := c.Organization
	for i, r := range o.Regions {
		if p := fleet.PartitionOf(r); r != "" && o.Partition != "" && p != o.Partition {
			d.problemAt(fmt.Sprintf("organization.regions[%d]", i),
				fmt.Sprintf("region %s is in the partition %s, not in %s", r, p, o.Partition),
				"Remove the region, or correct `organization.partition`.")
		}
	}
	for i, r := range o.ExcludeRegions {
		if r != "" && slices.Contains(o.Regions, r) {
			d.problemAt(fmt.Sprintf("organization.exclude_regions[%d]", i),
				fmt.Sprintf("region %s is both asked for and excluded", r),
				"Remove it from `regions` or from `exclude_regions`.")
		}
	}
}

// checkWaves sees to it that every account falls in exactly one wave.
func (c *Config) checkWaves(d *decoder) {
	names, grades, accounts := map[string]string{}, map[Criticality]string{}, map[fleet.AccountID]string{}
	closed := c.Organization.Discover == DiscoverList && !d.broken("accounts") && !d.broken("organization")
	for i, w := range c.Waves {
		path := fmt.Sprintf("waves[%d]", i)
		once(d, names, w.Name, path+".name", w.Where, "the wave name %q is already used at %s",
			"Give each wave "+
				"its own name.")
		for j, k := range w.Criticality {
			at := fmt.Sprintf("%s.criticality[%d]", path, j)
			once(d, grades, k, at, w.Where, "criticality %q is already taken by the wave at %s", "Leave it in "+
				"one of the two waves.")
		}
		for j, a := range w.Accounts {
			at := fmt.Sprintf("%s.accounts[%d]", path, j)
			once(d, accounts, a, at, w.Where, "account %q is already in the wave at %s", "Leave it in one of "+
				"the two waves.")
			if _, listed := c.AccountOf(a); a != "" && !listed && closed {
				d.problemAt(at, fmt.Sprintf("account %s is not among the `accounts` listed", a),
					"List it under `accounts`, or remove it here.")
			}
		}
		if len(w.Criticality)+len(w.Accounts) == 0 && !d.broken(path) {
			d.problemAt(path, fmt.Sprintf("wave %q takes no accounts", w.Name),
				"Add `criticality` or `accounts`, or remove the wave.")
		}
	}
	if d.broken("waves") {
		return
	}
	for _, k := range Criticalities() {
		if _, ok := grades[k]; !ok {
			d.problemAt("waves",
				fmt.Sprintf("criticality %q belongs to no wave, so its accounts would never be migrated", k),
				"Add it to the `criticality` of a wave.")
		}
	}
}

// once reports a key that was seen before; the empty key stands for one already reported.
func once[K ~string](d *decoder, seen map[K]string, key K, path, where, summary, remedy string) {
	if key == "" {
		return
	}
	before, ok := seen[key]
	if !ok {
		seen[key] = where
		return
	}
	if before != where { // twice in one wave is reported where the list is read
		d.problemAt(path, fmt.Sprintf(summary, string(key), before), remedy)
	}
}

// checkHistory refuses a look back that could show nothing more than the window. The default gives way to a long window instead.
func (c *Config) checkHistory(d *decoder) {
	e := c.Evidence
	_, written := d.at["evidence.history"]
	switch {
	case !written || e.History == 0 || d.broken("evidence.history") || d.broken("evidence.window"):
	case e.History%day != 0:
		d.problemAt("evidence.history", fmt.Sprintf("evidence.history %s is not a number of whole days", showDuration(e.History)),
			"Write whole days, such as 200d.")
	case e.History <= e.Window:
		d.problemAt("evidence.history", fmt.Sprintf("evidence.history %s is not longer than the window of %s", showDuration(e.History),
			showDuration(e.Window)), "Write more than the window, or 0s for no look back.")
	}
}

func (c *Config) checkEvidence(d *decoder) {
	c.checkHistory(d)
	e := c.Evidence
	// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#metrics-retention
	const fine = 63 * day
	switch {
	case d.broken("evidence.window") || d.broken("evidence.period"):
	case e.Window%e.Period != 0:
		d.problemAt("evidence.window", fmt.Sprintf("evidence.window %s is not a multiple of the period %s",
			showDuration(e.Window), showDuration(e.Period)), "Write whole periods, such as 14d.")
	case e.Period < time.Hour && e.Window > fine:
		d.problemAt("evidence.window",
			fmt.Sprintf("evidence.window %s is longer than the %s that CloudWatch keeps datapoints of %s",
				showDuration(e.Window), showDuration(fine), showDuration(e.Period)), "Shorten the window, or set "+
				"`period: 1h`.")
	}
}
