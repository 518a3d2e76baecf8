package ec2

import (
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Who manages the account's defaults.
const (
	ManagedByAccount = "account"
	ManagedByPolicy  = "declarative-policy"
)

// Defaults are the metadata defaults of an account in a region. A field without preference is its zero value.
type Defaults struct {
	Options   fleet.Options // IPv6 is not part of it
	Enforced  string        // HttpTokensEnforced: "enabled", "disabled" or ""
	ManagedBy string
	Message   string // of the declarative policy
}

// Defaults are those in force: what the organization declares, else what the account has chosen.
func (s *Store) Defaults() Defaults {
	if d := s.declared.of(s.place.Account, (*core.Versioned[*Defaults]).Newest); d != nil {
		return *d
	}
	return s.defaults.Newest()
}

// seenDefaults are Defaults as a describe call sees them.
func (s *Store) seenDefaults(now time.Time) Defaults {
	seen := func(v *core.Versioned[*Defaults]) *Defaults { return v.Seen(now) }
	if d := s.declared.of(s.place.Account, seen); d != nil {
		return *d
	}
	return s.defaults.Seen(now)
}

// SetDefaults replaces what the account has chosen.
func (s *Store) SetDefaults(now time.Time, d Defaults) { s.defaults.Set(now, s.delay(), d) }

// SetDeclared replaces what the organization's declarative policies give an account, in all its regions, and takes it out of
// the account's hands. Nil ends that, and what the account had chosen before is in force again. It shows after the delay.
func SetDeclared(w *core.World, now time.Time, delay time.Duration, account fleet.AccountID, d *Defaults) {
	all := declarationsOf(w)
	all.mu.Lock()
	defer all.mu.Unlock()
	v := all.byAccount[account]
	if v == nil {
		v = &core.Versioned[*Defaults]{}
		all.byAccount[account] = v
	}
	v.Set(now, delay, d)
}

// declarations are the defaults that an organization declares, by account. They are of the whole world.
type declarations struct {
	mu        sync.RWMutex
	byAccount map[fleet.AccountID]*core.Versioned[*Defaults]
}

func declarationsOf(w *core.World) *declarations {
	return w.Store("ec2/declared", func() any {
		return &declarations{byAccount: map[fleet.AccountID]*core.Versioned[*Defaults]{}}
	}).(*declarations)
}

func (d *declarations) of(account fleet.AccountID, read func(*core.Versioned[*Defaults]) *Defaults) *Defaults {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if v := d.byAccount[account]; v != nil {
		return read(v)
	}
	return nil
}

func defaultsActions() map[string]core.Action {
	get := describe(getDefaults)
	get.BucketFor, get.Bucket, get.Params = nil, core.BucketDescribe, []string{}
	return map[string]core.Action{
		"GetInstanceMetadataDefaults": get,
		"ModifyInstanceMetadataDefaults": change(core.BucketDefaults, modifyDefaults, accessDefaults,
			"HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "InstanceMetadataTags", "HttpTokensEnforced"),
	}
}

// accessDefaults carries what is asked for as ec2:Attribute/….
func accessDefaults(c *core.Call) []core.Access {
	a := core.Access{Condition: map[string][]string{"ec2:region": {string(c.Place.Region)}}}
	for _, n := range c.In.Names() {
		if n != "DryRun" {
			a.Condition["ec2:attribute/"+n] = []string{c.In.Str(n)}
			a.Condition["ec2:attribute"] = append(a.Condition["ec2:attribute"], n)
		}
	}
	return []core.Access{a}
}

func getDefaults(c *core.Call) error {
	if err := c.DryRun(); err != nil {
		return err
	}
	s := storeOf(c)
	d := s.seenDefaults(c.Now)
	c.Out.Struct("accountLevel", func() {
		w := c.Out
		w.Opt("httpTokens", d.Options.Tokens)
		if d.Options.HopLimit > 0 {
			w.Int("httpPutResponseHopLimit", int64(d.Options.HopLimit))
		}
		w.Opt("httpEndpoint", d.Options.Endpoint)
		w.Opt("instanceMetadataTags", d.Options.Tags)
		w.Str("managedBy", d.ManagedBy)
		w.Opt("managedExceptionMessage", d.Message)
		w.Opt("httpTokensEnforced", d.Enforced)
	})
	return nil
}

// modifyDefaults keeps what is not sent; "no-preference" (-1 for the hop limit) unsets.
func modifyDefaults(c *core.Call) error {
	s := storeOf(c)
	d := s.Defaults()
	for _, f := range []struct {
		name    string
		into    *string
		allowed []string
	}{
		{"HttpTokens", &d.Options.Tokens, []string{fleet.TokensOptional, fleet.TokensRequired, fleet.NoPreference}},
		{"HttpEndpoint", &d.Options.Endpoint, []string{fleet.Enabled, fleet.Disabled, fleet.NoPreference}},
		{"InstanceMetadataTags", &d.Options.Tags, []string{fleet.Enabled, fleet.Disabled, fleet.NoPreference}},
		{"HttpTokensEnforced", &d.Enforced, []string{fleet.Enabled, fleet.Disabled, fleet.NoPreference}},
	} {
		v := c.In.Str(f.name)
		if err := oneOf(f.name, v, f.allowed...); err != nil {
			return err
		}
		switch v {
		case "":
		case fleet.NoPreference:
			*f.into = ""
		default:
			*f.into = v
		}
	}
	hop, set, err := c.In.Int("HttpPutResponseHopLimit")
	switch {
	case err != nil:
		return err
	case set && hop != -1 && (hop < 1 || hop > 64):
		return wire.Errorf("InvalidParameterValue",
			"A value of '%d' is not valid for HttpPutResponseHopLimit. "+
				"Specify a value between 1 and 64, or -1, and try again.", hop)
	case set:
		d.Options.HopLimit = int(max(hop, 0))
	}
	if d.ManagedBy == ManagedByPolicy {
		message := "The instance metadata defaults are managed by a declarative policy and cannot be modified by the account."
		if d.Message != "" {
			message += " " + d.Message
		}
		return wire.Errorf("DeclarativePolicyViolation", "%s", message)
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	s.SetDefaults(c.Now, d)
	c.Mutated("account-defaults")
	c.Out.Bool("return", true)
	return nil
}
