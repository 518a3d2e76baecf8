package core

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Seed is the JSON document from which a world is made. Unknown keys are refused with their path.
type Seed struct {
	Organization Organization `json:"organization,omitzero"`
	// ManagedPolicies are customer managed policies by name, which roles may attach.
	ManagedPolicies map[string]json.RawMessage `json:"managed_policies,omitempty"`
	Accounts        []AccountSeed              `json:"accounts"`
	// NotOffered are the regions in which a service is not offered, by service.
	NotOffered map[string][]fleet.Region `json:"not_offered,omitempty"`
	// Services are world-wide sections by service: {"organizations": {"policies": […]}}.
	Services map[string]json.RawMessage `json:"services,omitempty"`
}

// AccountSeed is one account with everything in it.
type AccountSeed struct {
	ID        fleet.AccountID   `json:"id"`
	Name      string            `json:"name,omitempty"`
	Email     string            `json:"email,omitempty"`
	OU        string            `json:"ou,omitempty"`
	Partition fleet.Partition   `json:"partition,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
	// OptIn are the regions enabled beyond those that are on by default.
	OptIn []fleet.Region `json:"opt_in,omitempty"`
	// AccessKeys are key ids of the account's administrator; the account's number always is one.
	AccessKeys []string   `json:"access_keys,omitempty"`
	Roles      []RoleSeed `json:"roles,omitempty"`
	// Global are sections of global services.
	Global map[string]json.RawMessage `json:"global,omitempty"`
	// Regions are sections by region and service: {"eu-west-1": {"ec2": {…}}}.
	Regions map[fleet.Region]map[string]json.RawMessage `json:"regions,omitempty"`
}

// RoleSeed is one IAM role.
type RoleSeed struct {
	Name              string `json:"name"`
	Path              string `json:"path,omitempty"` // "/" by default
	Description       string `json:"description,omitempty"`
	MaxSessionSeconds int    `json:"max_session_seconds,omitempty"` // an hour by default
	// Trust is the trust policy document.
	Trust json.RawMessage `json:"trust"`
	// Policies are inline policy documents by name.
	Policies map[string]json.RawMessage `json:"policies,omitempty"`
	// Managed names policies of the seed's managed_policies.
	Managed []string `json:"managed,omitempty"`
}

// Load adds what a seed describes to the world. On an error the world may hold a part of it and should be thrown away.
func (w *World) Load(seed []byte) error {
	var s Seed
	if err := DecodeStrict("seed", seed, &s); err != nil {
		return err
	}
	return w.LoadSeed(&s)
}

// LoadSeed is Load for a seed made in the program.
func (w *World) LoadSeed(s *Seed) error {
	if s.Organization.ManagementAccount != "" || len(s.Organization.OUs) > 0 {
		w.SetOrganization(s.Organization)
	}
	for i := range s.Accounts {
		if err := w.loadAccount(s, i); err != nil {
			return err
		}
	}
	if err := w.checkOrganization(); err != nil {
		return err
	}
	if err := w.loadOffers(s); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		path := "seed.services." + name
		svc := w.services[name]
		if svc == nil || svc.SeedWorld == nil {
			return fmt.Errorf("%s: no service takes such a section", path)
		}
		if err := svc.SeedWorld(w, s.Services[name], path); err != nil {
			return err
		}
	}
	for i := range s.Accounts {
		if err := w.loadPlaces(&s.Accounts[i], fmt.Sprintf("seed.accounts[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) loadAccount(s *Seed, i int) error {
	a, path := &s.Accounts[i], fmt.Sprintf("seed.accounts[%d]", i)
	if _, exists := w.Account(a.ID); !exists {
		err := w.AddAccount(Account{
			ID: a.ID, Name: a.Name, Email: a.Email, OU: a.OU, Partition: a.Partition, Tags: a.Tags, OptedIn: a.OptIn,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, k := range a.AccessKeys {
		if err := w.PutAccessKey(a.ID, k); err != nil {
			return fmt.Errorf("%s.access_keys: %w", path, err)
		}
	}
	for j, r := range a.Roles {
		if err := w.loadRole(s, a.ID, r); err != nil {
			return fmt.Errorf("%s.roles[%d]: %w", path, j, err)
		}
	}
	return nil
}

func (w *World) loadRole(s *Seed, account fleet.AccountID, r RoleSeed) error {
	if r.Name == "" {
		return errors.New("a role needs a name")
	}
	policies := map[string]string{}
	for name, doc := range r.Policies {
		policies[name] = string(doc)
	}
	for _, name := range r.Managed {
		doc, ok := s.ManagedPolicies[name]
		if !ok {
			return fmt.Errorf("role %s: managed policy %q is not in managed_policies", r.Name, name)
		}
		policies["managed/"+name] = string(doc)
	}
	return w.putRole(account, r, string(r.Trust), policies)
}

func (w *World) checkOrganization() error {
	o := w.Organization()
	names := map[string]bool{"": true}
	for i, ou := range o.OUs {
		if ou.Name == "" || names[ou.Name] {
			return fmt.Errorf("seed.organization.ous[%d]: name %q is empty or used twice", i, ou.Name)
		}
		if !names[ou.Parent] {
			return fmt.Errorf("seed.organization.ous[%d]: parent %q is not listed before it", i, ou.Parent)
		}
		names[ou.Name] = true
	}
	if _, ok := w.Account(o.ManagementAccount); o.ManagementAccount != "" && !ok {
		return fmt.Errorf("seed.organization.management_account: account %s is not in the seed", o.ManagementAccount)
	}
	for _, a := range w.Accounts() {
		if !names[a.OU] {
			return fmt.Errorf("account %s: organizational unit %q is not in the organization", a.ID, a.OU)
		}
	}
	return nil
}

func (w *World) loadPlaces(a *AccountSeed, path string) error {
	if len(a.Global) > 0 {
		if err := w.loadPlace(a.ID, "", a.Global, path+".global"); err != nil {
			return err
		}
	}
	account, _ := w.Account(a.ID)
	for _, region := range slices.Sorted(maps.Keys(a.Regions)) {
		here := path + ".regions." + string(region)
		if err := checkRegion(account.Partition, region); err != nil {
			return fmt.Errorf("%s: %w", here, err)
		}
		if err := w.loadPlace(a.ID, region, a.Regions[region], here); err != nil {
			return err
		}
	}
	return nil
}

// loadPlace loads the sections of one place, services in alphabetical order but EC2 first, since others refer to it.
func (w *World) loadPlace(account fleet.AccountID, region fleet.Region, sections map[string]json.RawMessage,
	path string) error {
	p, err := w.Place(account, region)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	names := slices.SortedFunc(maps.Keys(sections), func(a, b string) int {
		if a == "ec2" || b == "ec2" {
			return map[bool]int{true: -1, false: 1}[a == "ec2"]
		}
		return strings.Compare(a, b)
	})
	p.With(func(time.Time) {
		for _, name := range names {
			svc := w.services[name]
			if svc == nil || svc.SeedPlace == nil || svc.Global != (region == "") {
				err = fmt.Errorf("%s.%s: no service takes such a section", path, name)
				return
			}
			if err = svc.SeedPlace(p, sections[name], path+"."+name); err != nil {
				return
			}
		}
		for _, name := range slices.Sorted(maps.Keys(w.services)) {
			if done := w.services[name].SeedDone; done != nil && err == nil && w.services[name].Global == (region == "") {
				if err = done(p); err != nil {
					err = fmt.Errorf("%s: %w", path, err)
				}
			}
		}
	})
	return err
}

// DecodeStrict reads JSON into a struct. Unknown keys and wrong types are errors that name their path.
func DecodeStrict(path string, doc []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("%s: more than one JSON document", path)
	}
	if err := checkKeys(path, tree, reflect.TypeOf(into).Elem()); err != nil {
		return err
	}
	if err := json.Unmarshal(doc, into); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("%s.%s: want %s, not %s", path, t.Field, t.Type, t.Value)
		}
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

var (
	rawType         = reflect.TypeFor[json.RawMessage]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

func checkKeys(path string, tree any, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == rawType || reflect.PointerTo(t).Implements(unmarshalerType) {
		return nil
	}
	switch x := tree.(type) {
	case []any:
		if t.Kind() != reflect.Slice {
			return nil // json.Unmarshal tells
		}
		for i, e := range x {
			if err := checkKeys(fmt.Sprintf("%s[%d]", path, i), e, t.Elem()); err != nil {
				return err
			}
		}
	case map[string]any:
		switch t.Kind() {
		case reflect.Map:
			for k, e := range x {
				if err := checkKeys(path+"."+k, e, t.Elem()); err != nil {
					return err
				}
			}
		case reflect.Struct:
			return checkStruct(path, x, t)
		}
	}
	return nil
}

func checkStruct(path string, x map[string]any, t reflect.Type) error {
	known := map[string]reflect.Type{}
	collectFields(t, known)
	for _, k := range slices.Sorted(maps.Keys(x)) {
		field, ok := known[k]
		if !ok {
			return fmt.Errorf("%s.%s: unknown key; known are %s", path, k, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if err := checkKeys(path+"."+k, x[k], field); err != nil {
			return err
		}
	}
	return nil
}

func collectFields(t reflect.Type, into map[string]reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			collectFields(f.Type, into)
		case name == "-" || !f.IsExported():
		case name == "":
			into[f.Name] = f.Type
		default:
			into[name] = f.Type
		}
	}
}

// TrustAccount is a trust policy that lets an account's principals assume a role, with an external id unless it is
// empty.
func TrustAccount(account fleet.AccountID, externalID string) string {
	statement := map[string]any{
		"Effect": "Allow", "Action": "sts:AssumeRole",
		"Principal": map[string]string{"AWS": "arn:aws:iam::" + string(account) + ":root"},
	}
	if externalID != "" {
		statement["Condition"] = map[string]any{"StringEquals": map[string]string{"sts:ExternalId": externalID}}
	}
	doc, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{statement}})
	if err != nil { // strings always marshal
		panic(err)
	}
	return string(doc)
}

// AllowActions is an identity policy that allows actions on everything.
func AllowActions(actions ...string) string {
	doc, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]any{"Effect": "Allow", "Action": actions, "Resource": "*"},
	}})
	if err != nil { // strings always marshal
		panic(err)
	}
	return string(doc)
}
