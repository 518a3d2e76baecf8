package organizations

import (
	"encoding/base64"
	"maps"
	"slices"
	"strconv"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// maxPage is the most any list returns at a time.
const maxPage = 20

// Service declares Organizations over the world's accounts and organizational units, and its own policies. Its section of
// a seed's services is Seed.
func Service() *core.Service {
	s := &core.Service{
		Name: "organizations", Protocols: []wire.Protocol{wire.JSON11}, Targets: []string{"AWSOrganizationsV20161128"},
		Global: true, Actions: map[string]core.Action{}, SeedWorld: seed,
	}
	add := func(name string, admin bool, run func(scope, *wire.Writer) error) {
		s.Actions[name] = core.Action{
			// https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html
			Bucket: core.Bucket{Burst: 20, Refill: 10},
			Handle: func(c *core.Call) error { return answer(c, admin, run) },
		}
	}
	add("DescribeOrganization", false, describeOrganization)
	add("DescribeAccount", true, describeAccount)
	add("DescribeOrganizationalUnit", true, describeUnit)
	add("ListAccounts", true, listAccounts)
	add("ListAccountsForParent", true, listAccountsForParent)
	add("ListChildren", true, listChildren)
	add("ListOrganizationalUnitsForParent", true, listUnits)
	add("ListParents", true, listParents)
	add("ListRoots", true, listRoots)
	add("ListTagsForResource", true, listTags)
	maps.Copy(s.Actions, policyActions())
	return s
}

// scope is one request of a caller who belongs to an organization.
type scope struct {
	org    *organization
	params wire.Value
	call   *core.Call
	kept   *settings
}

// answer runs an action for the caller. Only the management account and delegated administrators may call those of the
// administrator.
func answer(c *core.Call, admin bool, run func(scope, *wire.Writer) error) error {
	org := view(c.World)
	if org.account(c.Account()) == nil {
		return wire.Errorf("AWSOrganizationsNotInUseException", "Your account is not a member of an organization.")
	}
	if admin && !org.mayRead(c.Account()) {
		return wire.Errorf("AccessDeniedException", "You don't have permissions to access this resource.")
	}
	return run(scope{org, c.In, c, settingsOf(c.World)}, c.Out)
}

func describeOrganization(sc scope, w *wire.Writer) error {
	o := sc.org
	w.Struct("Organization", func() {
		w.Str("Id", o.id)
		w.Str("Arn", o.arn("organization", ""))
		w.Str("FeatureSet", "ALL")
		w.Str("MasterAccountArn", o.arn("account", "/"+string(o.management)))
		w.Str("MasterAccountId", string(o.management))
		w.Str("MasterAccountEmail", o.account(o.management).Email)
		writePolicyTypes(w, "AvailablePolicyTypes", o.policyTypes)
	})
	return nil
}

func describeAccount(sc scope, w *wire.Writer) error {
	id, err := required(sc, "AccountId")
	if err != nil {
		return err
	}
	a := sc.org.account(fleet.AccountID(id))
	if a == nil {
		return wire.Errorf("AccountNotFoundException", "You specified an account that doesn't exist.")
	}
	w.Struct("Account", func() { writeAccount(w, sc.org, a) })
	return nil
}

func describeUnit(sc scope, w *wire.Writer) error {
	id, err := required(sc, "OrganizationalUnitId")
	if err != nil {
		return err
	}
	u := sc.org.unitBy(id)
	if u == nil {
		return wire.Errorf("OrganizationalUnitNotFoundException", "You specified an organizational unit that doesn't exist.")
	}
	w.Struct("OrganizationalUnit", func() { writeUnit(w, sc.org, u) })
	return nil
}

func listAccounts(sc scope, w *wire.Writer) error {
	all := make([]*account, len(sc.org.accounts))
	for i := range all {
		all[i] = &sc.org.accounts[i]
	}
	return list(sc, w, "Accounts", all, func(a *account) { writeAccount(w, sc.org, a) })
}

func listAccountsForParent(sc scope, w *wire.Writer) error {
	parent, err := parentOf(sc)
	if err != nil {
		return err
	}
	return list(sc, w, "Accounts", sc.org.accountsIn(parent), func(a *account) { writeAccount(w, sc.org, a) })
}

func listUnits(sc scope, w *wire.Writer) error {
	parent, err := parentOf(sc)
	if err != nil {
		return err
	}
	return list(sc, w, "OrganizationalUnits", sc.org.unitsIn(parent), func(u *unit) { writeUnit(w, sc.org, u) })
}

func listChildren(sc scope, w *wire.Writer) error {
	parent, err := parentOf(sc)
	if err != nil {
		return err
	}
	kind, err := required(sc, "ChildType")
	if err != nil {
		return err
	}
	var ids []string
	switch kind {
	case "ACCOUNT":
		for _, a := range sc.org.accountsIn(parent) {
			ids = append(ids, string(a.ID))
		}
	case "ORGANIZATIONAL_UNIT":
		for _, u := range sc.org.unitsIn(parent) {
			ids = append(ids, u.id)
		}
	default:
		return invalid("You specified an invalid value for ChildType.")
	}
	return list(sc, w, "Children", ids, func(id string) {
		w.Str("Id", id)
		w.Str("Type", kind)
	})
}

func listParents(sc scope, w *wire.Writer) error {
	child, err := required(sc, "ChildId")
	if err != nil {
		return err
	}
	var parent string
	if a := sc.org.account(fleet.AccountID(child)); a != nil {
		parent = a.parent
	} else if u := sc.org.unitBy(child); u != nil {
		parent = u.parent
	} else {
		return wire.Errorf("ChildNotFoundException", "You specified a child that doesn't exist.")
	}
	return list(sc, w, "Parents", []string{parent}, func(id string) {
		w.Str("Id", id)
		if id == sc.org.root {
			w.Str("Type", "ROOT")
		} else {
			w.Str("Type", "ORGANIZATIONAL_UNIT")
		}
	})
}

func listRoots(sc scope, w *wire.Writer) error {
	return list(sc, w, "Roots", []string{sc.org.root}, func(id string) {
		w.Str("Id", id)
		w.Str("Arn", sc.org.arn("root", "/"+id))
		w.Str("Name", "Root")
		writePolicyTypes(w, "PolicyTypes", sc.org.policyTypes)
	})
}

func listTags(sc scope, w *wire.Writer) error {
	id, err := required(sc, "ResourceId")
	if err != nil {
		return err
	}
	var tags map[string]string
	if a := sc.org.account(fleet.AccountID(id)); a != nil {
		tags = a.Tags
	} else if u := sc.org.unitBy(id); u != nil {
		tags = u.tags
	} else if p := sc.policyTags(id); p != nil {
		tags = p
	} else if id != sc.org.root {
		return wire.Errorf("TargetNotFoundException", "We can't find a root, OU, account, or policy with the TargetId "+
			"that you specified.")
	}
	return list(sc, w, "Tags", slices.Sorted(maps.Keys(tags)), func(k string) {
		w.Str("Key", k)
		w.Str("Value", tags[k])
	})
}

// policyTags are the tags of a policy; nil where there is none of that id.
func (sc scope) policyTags(id string) map[string]string {
	sc.kept.mu.RLock()
	defer sc.kept.mu.RUnlock()
	for _, p := range sc.kept.policies {
		if p.id == id && sc.seen(p) != nil {
			tags := map[string]string{}
			maps.Copy(tags, p.tags)
			return tags
		}
	}
	return nil
}

func (o *organization) accountsIn(parent string) []*account {
	var out []*account
	for i := range o.accounts {
		if o.accounts[i].parent == parent {
			out = append(out, &o.accounts[i])
		}
	}
	return out
}

func (o *organization) unitsIn(parent string) []*unit {
	var out []*unit
	for i := range o.units {
		if o.units[i].parent == parent {
			out = append(out, &o.units[i])
		}
	}
	return out
}

// list writes a page of structures and the token of the next.
func list[T any](sc scope, w *wire.Writer, name string, items []T, write func(T)) error {
	limit, set, err := sc.params.Int("MaxResults")
	if err != nil || (set && (limit < 1 || limit > maxPage)) {
		return invalid("MaxResults must be between 1 and 20.")
	}
	if !set {
		limit = maxPage
	}
	start := 0
	if token := sc.params.Str("NextToken"); token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		if err == nil {
			start, err = strconv.Atoi(string(b))
		}
		if err != nil || start < 0 || start > len(items) {
			return invalid("You specified an invalid NextToken.")
		}
	}
	end := min(start+int(limit), len(items))
	w.List(name, func() {
		for _, it := range items[start:end] {
			w.Struct("", func() { write(it) })
		}
	})
	if end < len(items) {
		w.Str("NextToken", base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(end))))
	}
	return nil
}

func parentOf(sc scope) (string, error) {
	id, err := required(sc, "ParentId")
	if err == nil && !sc.org.isParent(id) {
		return "", wire.Errorf("ParentNotFoundException", "You specified parent that doesn't exist.")
	}
	return id, err
}

func required(sc scope, name string) (string, error) {
	if v := sc.params.Str(name); v != "" {
		return v, nil
	}
	return "", invalid("You must specify a value for " + name + ".")
}

func invalid(message string) error { return wire.Errorf("InvalidInputException", "%s", message) }

func writeAccount(w *wire.Writer, o *organization, a *account) {
	w.Str("Id", string(a.ID))
	w.Str("Arn", o.arn("account", "/"+string(a.ID)))
	w.Str("Email", a.Email)
	w.Str("Name", a.Name)
	w.Str("Status", a.state)
	w.Str("State", a.state)
	w.Strings("Paths", []string{o.path(a.parent) + string(a.ID) + "/"})
	w.Str("JoinedMethod", "CREATED")
	w.Time("JoinedTimestamp", a.Joined)
}

func writeUnit(w *wire.Writer, o *organization, u *unit) {
	w.Str("Id", u.id)
	w.Str("Arn", o.arn("ou", "/"+u.id))
	w.Str("Name", u.name)
	w.Str("Path", o.path(u.id))
}

func writePolicyTypes(w *wire.Writer, name string, types []string) {
	w.List(name, func() {
		for _, t := range types {
			w.Struct("", func() {
				w.Str("Type", t)
				w.Str("Status", "ENABLED")
			})
		}
	})
}
