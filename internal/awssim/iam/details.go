package iam

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Name is the service's name, and that of its section in the global places of a seed.
const Name = "iam"

// Seed is the section "iam" of an account's global place.
type Seed struct {
	// Policies are managed ones. AWS's own have the account "aws" in their ARN.
	Policies []PolicySeed `json:"policies,omitempty"`
	Roles    []RoleSeed   `json:"roles,omitempty"`
}

// PolicySeed is a managed policy. Documents before the last are older versions.
type PolicySeed struct {
	Name string `json:"name"`
	Path string `json:"path,omitempty"` // "/" by default
	// AWS: it is one of AWS's own.
	AWS       bool              `json:"aws,omitempty"`
	Documents []json.RawMessage `json:"documents"`
	// Default is the number of the version in force; the last by default.
	Default int `json:"default,omitempty"`
}

// RoleSeed is a role with what it is shown with.
type RoleSeed struct {
	Name   string                     `json:"name"`
	Path   string                     `json:"path,omitempty"` // "/" by default
	Trust  json.RawMessage            `json:"trust"`
	Inline map[string]json.RawMessage `json:"inline,omitempty"`
	// Attached and Boundary are names of managed policies of the section.
	Attached []string `json:"attached,omitempty"`
	Boundary string   `json:"boundary,omitempty"`
	// Profiles are the names of the instance profiles that it is in.
	Profiles []string          `json:"profiles,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
}

// store is what an account's roles are shown with.
type store struct {
	policies map[string]*PolicySeed // by name
	roles    map[string]*RoleSeed   // by name
}

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any { return &store{policies: map[string]*PolicySeed{}, roles: map[string]*RoleSeed{}} }).(*store)
}

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	return Put(p, in, path)
}

// Put adds policies and roles to an account, by its global place, whose lock the caller holds; path is for errors.
func Put(p *core.Place, in Seed, path string) error {
	s := storeOf(p)
	for i, v := range in.Policies {
		if v.Default == 0 {
			v.Default = len(v.Documents)
		}
		if v.Name == "" || s.policies[v.Name] != nil || v.Default < 1 || v.Default > len(v.Documents) {
			return fmt.Errorf("%s.policies[%d]: %q: want a name of its own, documents, and the number of one", path, i, v.Name)
		}
		if v.Path == "" {
			v.Path = "/"
		}
		s.policies[v.Name] = &v
	}
	for i, r := range in.Roles {
		if err := s.seedRole(p, &r); err != nil {
			return fmt.Errorf("%s.roles[%d]: %w", path, i, err)
		}
	}
	return nil
}

// seedRole gives the role to the core, which enforces all its policies as if they were its own.
func (s *store) seedRole(p *core.Place, r *RoleSeed) error {
	inForce := map[string]json.RawMessage{}
	maps.Copy(inForce, r.Inline)
	for _, name := range append([]string{r.Boundary}, r.Attached...) {
		switch policy := s.policies[name]; {
		case name == "":
		case policy == nil:
			return fmt.Errorf("role %s: managed policy %q is not in the section", r.Name, name)
		case name != r.Boundary || slices.Contains(r.Attached, name):
			inForce["managed/"+name] = policy.Documents[policy.Default-1]
		}
	}
	seed := core.RoleSeed{Name: r.Name, Path: r.Path, Trust: r.Trust, Policies: inForce}
	if err := p.World().SeedRole(p.Account, seed); err != nil {
		return err
	}
	s.roles[r.Name] = r
	return nil
}

// detail is one entity of an account's authorization details: a role or a managed policy.
type detail struct {
	key   string // its place in the order
	write func()
}

// authorizationDetails gives roles and managed policies, in this order and by name, page by page. The simulator has no users and
// no groups. Policies that a seed of the core gave a role by "managed" are shown as inline ones.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccountAuthorizationDetails.html
func authorizationDetails(c *core.Call) error {
	filter := c.In.Strings("Filter")
	for _, f := range filter {
		if !slices.Contains([]string{"User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"}, f) {
			return wire.Errorf("ValidationError", "1 validation error detected: Value '%s' at 'filter' failed to satisfy constraint", f)
		}
	}
	most, set, err := c.In.Int("MaxItems")
	if err != nil || set && (most < 1 || most > 1000) {
		return wire.Errorf("ValidationError", "1 validation error detected: Value at 'maxItems' failed to satisfy constraint")
	}
	if !set {
		most = 100
	}
	after, err := base64.RawURLEncoding.DecodeString(c.In.Str("Marker"))
	if err != nil {
		return wire.Errorf("InvalidInput", "Invalid Marker")
	}
	asked := func(entity string) bool { return len(filter) == 0 || slices.Contains(filter, entity) }
	s := storeOf(c.Place)
	roles, policies := s.details(c, asked)
	last, more := "", false
	page := func(all []detail) []detail {
		var out []detail
		for _, d := range all {
			if d.key <= string(after) || more {
				continue
			}
			if most == 0 {
				more = true
				continue
			}
			out, last, most = append(out, d), d.key, most-1
		}
		return out
	}
	roles, policies = page(roles), page(policies)
	for _, list := range []struct {
		name string
		of   []detail
	}{{"UserDetailList", nil}, {"GroupDetailList", nil}, {"RoleDetailList", roles}, {"Policies", policies}} {
		c.Out.List(list.name, func() {
			for _, d := range list.of {
				c.Out.Struct("", d.write)
			}
		})
	}
	c.Out.Bool("IsTruncated", more)
	if more {
		c.Out.Str("Marker", base64.RawURLEncoding.EncodeToString([]byte(last)))
	}
	return nil
}

// details lists what is asked for.
func (s *store) details(c *core.Call, asked func(entity string) bool) (roles, policies []detail) {
	if asked("Role") {
		for _, r := range c.World.Roles(c.Account()) {
			roles = append(roles, detail{"1" + r.Name, func() { s.writeRole(c, r) }})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.policies)) {
		p := s.policies[name]
		if entity := map[bool]string{true: "AWSManagedPolicy", false: "LocalManagedPolicy"}[p.AWS]; asked(entity) {
			policies = append(policies, detail{"2" + name, func() { s.writePolicy(c, p) }})
		}
	}
	return roles, policies
}

func policyARN(c *core.Call, p *PolicySeed) string {
	account := string(c.Account())
	if p.AWS {
		account = "aws"
	}
	return "arn:" + string(c.Place.Partition) + ":iam::" + account + ":policy" + p.Path + p.Name
}

// idOf makes an id of the length of IAM's, the same for the same name.
func idOf(prefix, name string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return fmt.Sprintf("%s%017X", prefix, h.Sum64())
}

func (s *store) writeRole(c *core.Call, r *core.Role) {
	w, shown := c.Out, s.roles[r.Name]
	if shown == nil {
		shown = &RoleSeed{}
	}
	w.Str("Path", r.Path)
	w.Str("RoleName", r.Name)
	w.Str("RoleId", r.ID)
	w.Str("Arn", r.ARN(c.Place.Partition))
	w.Time("CreateDate", r.Created)
	w.Str("AssumeRolePolicyDocument", escape(r.Trust.Source()))
	w.List("InstanceProfileList", func() {
		for _, name := range shown.Profiles {
			w.Struct("", func() {
				w.Str("Path", "/")
				w.Str("InstanceProfileName", name)
				w.Str("InstanceProfileId", idOf("AIPA", name))
				w.Str("Arn", "arn:"+string(c.Place.Partition)+":iam::"+string(c.Account())+":instance-profile/"+name)
				w.Time("CreateDate", r.Created)
				w.List("Roles", func() { writeRole(c, "", r) })
			})
		}
	})
	w.List("RolePolicyList", func() {
		for _, name := range slices.Sorted(maps.Keys(r.Policies)) {
			if managed, ok := strings.CutPrefix(name, "managed/"); ok && s.policies[managed] != nil {
				continue
			}
			w.Struct("", func() {
				w.Str("PolicyName", name)
				w.Str("PolicyDocument", escape(r.Policies[name].Source()))
			})
		}
	})
	w.List("AttachedManagedPolicies", func() {
		for _, name := range shown.Attached {
			w.Struct("", func() {
				w.Str("PolicyName", name)
				w.Str("PolicyArn", policyARN(c, s.policies[name]))
			})
		}
	})
	if b := s.policies[shown.Boundary]; b != nil {
		w.Struct("PermissionsBoundary", func() {
			w.Str("PermissionsBoundaryType", "PermissionsBoundaryPolicy")
			w.Str("PermissionsBoundaryArn", policyARN(c, b))
		})
	}
	w.List("Tags", func() {
		for _, key := range slices.Sorted(maps.Keys(shown.Tags)) {
			w.Struct("", func() {
				w.Str("Key", key)
				w.Str("Value", shown.Tags[key])
			})
		}
	})
}

// writePolicy shows all versions of the account's own policies, the latest first, and of AWS's the one in force.
func (s *store) writePolicy(c *core.Call, p *PolicySeed) {
	w := c.Out
	w.Str("PolicyName", p.Name)
	w.Str("PolicyId", idOf("ANPA", p.Name))
	w.Str("Arn", policyARN(c, p))
	w.Str("Path", p.Path)
	w.Str("DefaultVersionId", fmt.Sprintf("v%d", p.Default))
	w.Bool("IsAttachable", true)
	w.List("PolicyVersionList", func() {
		for n := len(p.Documents); n >= 1; n-- {
			if p.AWS && n != p.Default {
				continue
			}
			w.Struct("", func() {
				w.Str("Document", escape(string(p.Documents[n-1])))
				w.Str("VersionId", fmt.Sprintf("v%d", n))
				w.Bool("IsDefaultVersion", n == p.Default)
			})
		}
	})
}
