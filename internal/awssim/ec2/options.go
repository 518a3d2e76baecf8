package ec2

import (
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

func optionActions() map[string]core.Action {
	return map[string]core.Action{
		"ModifyInstanceMetadataOptions": change(core.BucketModify, modifyOptions, accessModifyOptions,
			"InstanceId", "HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "HttpProtocolIpv6", "InstanceMetadataTags"),
	}
}

// accessModifyOptions adds what is asked for as ec2:Attribute/… (Service Authorization Reference, Amazon EC2).
func accessModifyOptions(c *core.Call) []core.Access {
	needs := accessInstances(c)
	for _, n := range needs {
		if n.Condition == nil {
			continue
		}
		for _, name := range []string{"HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "HttpProtocolIpv6",
			"InstanceMetadataTags"} {
			if v := c.In.Str(name); v != "" {
				n.Condition["ec2:attribute/"+name] = []string{v}
				n.Condition["ec2:attribute"] = append(n.Condition["ec2:attribute"], name)
			}
		}
	}
	return needs
}

// optionsIn reads metadata options from a structure of the request; unset fields stay zero.
func optionsIn(v wire.Value) (fleet.Options, error) {
	o := fleet.Options{
		Tokens: v.Str("HttpTokens"), Endpoint: v.Str("HttpEndpoint"), IPv6: v.Str("HttpProtocolIpv6"),
		Tags: v.Str("InstanceMetadataTags"),
	}
	hop, set, err := v.Int("HttpPutResponseHopLimit")
	if err != nil {
		return o, err
	}
	if set && (hop < 1 || hop > 64) {
		return o, wire.Errorf("InvalidParameterValue",
			"A value of '%d' is not valid for HttpPutResponseHopLimit. Specify a value between 1 and 64 and try again.", hop)
	}
	o.HopLimit = int(hop)
	return o, checkOptions(o)
}

func checkOptions(o fleet.Options) error {
	for _, e := range []error{
		oneOf("HttpTokens", o.Tokens, fleet.TokensOptional, fleet.TokensRequired),
		oneOf("HttpEndpoint", o.Endpoint, fleet.Enabled, fleet.Disabled),
		oneOf("HttpProtocolIpv6", o.IPv6, fleet.Enabled, fleet.Disabled),
		oneOf("InstanceMetadataTags", o.Tags, fleet.Enabled, fleet.Disabled),
	} {
		if e != nil {
			return e
		}
	}
	return nil
}

// modifyOptions keeps omitted fields, as documented for each parameter.
func modifyOptions(c *core.Call) error {
	s := storeOf(c)
	id, err := required(c, "InstanceId")
	if err != nil {
		return err
	}
	c.Touch(id)
	patch, err := optionsIn(c.In)
	if err != nil {
		return err
	}
	found, err := s.find([]string{id}, exists)
	if err != nil {
		return err
	}
	i := found[0]
	if err := s.mayModify(i, patch); err != nil {
		return err
	}
	if err := checkShownTags(patch, i.state.Newest().Tags); err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	s.SetOptions(c.Now, i, patch.Over(i.state.Newest().Options))
	c.Mutated(id)
	c.Out.Str("instanceId", id)
	writeOptions(c.Out, "instanceMetadataOptions", i.state.Newest())
	return nil
}

func (s *Store) mayModify(i *Instance, patch fleet.Options) error {
	st := i.state.Newest()
	others := patch
	others.Endpoint = ""
	switch effective := patch.Over(st.Options); {
	case patch == fleet.Options{}:
		return wire.Errorf("MissingParameter", "The request must contain at least one metadata option to modify.")
	case ended(st.State):
		return wire.Errorf("IncorrectState", "The instance '%s' is in state '%s' and cannot be modified.", i.id, st.State)
	case effective.Endpoint == fleet.Disabled && others != fleet.Options{}:
		return wire.Errorf("InvalidParameterCombination",
			"HttpTokens, HttpPutResponseHopLimit, HttpProtocolIpv6 and InstanceMetadataTags can be set only "+
				"when HttpEndpoint is 'enabled'.")
	case patch.Tokens == fleet.TokensOptional && s.Defaults().Enforced == fleet.Enabled:
		return enforced("You can't change the instance to IMDSv1 (HttpTokens set to 'optional')")
	}
	return refuseManaged(i.id, st.Operator)
}

// enforced is EC2's refusal under HttpTokensEnforced.
func enforced(what string) error {
	return wire.Errorf("UnsupportedOperation",
		"%s because httpTokensEnforced is enabled for this account. To use IMDSv1, disable httpTokensEnforced first.", what)
}

// SetOptions gives an instance new options. A running instance has them after a while, a stopped one when it starts.
func (s *Store) SetOptions(now time.Time, i *Instance, o fleet.Options) {
	s.update(now, i, func(st *InstanceState) { st.Options, st.Pending = o, true })
	apply := func(now time.Time) {
		// A later change carries its own event; only the newest options are applied.
		if st := i.state.Newest(); st.Pending && st.Options == o && st.State == StateRunning {
			i.applied(now, o)
			s.update(now, i, func(st *InstanceState) { st.Pending = false })
		}
	}
	if settle := s.place.World().Settle(); settle > 0 {
		s.place.After(now, settle, apply)
	} else {
		apply(now)
	}
}
