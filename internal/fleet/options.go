package fleet

import (
	"fmt"
	"strconv"
)

// Values of the metadata options, in EC2's own words.
const (
	TokensOptional = "optional"
	TokensRequired = "required"
	Enabled        = "enabled"
	Disabled       = "disabled"
	NoPreference   = "no-preference"
)

// The canonical field names of instance metadata options. Kinds whose API uses other words keep them in their state and
// project them here.
const (
	FieldTokens   = "HttpTokens"
	FieldEndpoint = "HttpEndpoint"
	FieldHopLimit = "HttpPutResponseHopLimit"
	FieldIPv6     = "HttpProtocolIpv6"
	FieldTags     = "InstanceMetadataTags"
)

// Options are instance metadata options as people compare them across kinds. The zero value of a field means that the
// resource does not say: what a launch then gets is decided elsewhere (account default, AMI).
type Options struct {
	Tokens   string `json:"tokens,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	HopLimit int    `json:"hop_limit,omitempty"` // 1…64; 0 is unset
	IPv6     string `json:"ipv6,omitempty"`
	Tags     string `json:"instance_tags,omitempty"`
}

// Options projects a state that uses the canonical field names. "no-preference" reads as unset.
func (s State) Options() Options { return s.OptionsAt("") }

// OptionsAt projects the fields whose names begin with prefix.
func (s State) OptionsAt(prefix string) Options {
	get := func(f string) string {
		if v := s[prefix+f]; v != NoPreference {
			return v
		}
		return ""
	}
	hop, err := strconv.Atoi(get(FieldHopLimit))
	if err != nil || hop < 1 {
		hop = 0
	}
	return Options{Tokens: get(FieldTokens), Endpoint: get(FieldEndpoint), HopLimit: hop, IPv6: get(FieldIPv6), Tags: get(FieldTags)}
}

// State writes the set fields under their canonical names.
func (o Options) State() State {
	s := State{}
	put := func(f, v string) {
		if v != "" {
			s[f] = v
		}
	}
	put(FieldTokens, o.Tokens)
	put(FieldEndpoint, o.Endpoint)
	if o.HopLimit > 0 {
		s[FieldHopLimit] = strconv.Itoa(o.HopLimit)
	}
	put(FieldIPv6, o.IPv6)
	put(FieldTags, o.Tags)
	return s
}

// Over lays o over base: a field o leaves unset is taken from base.
func (o Options) Over(base Options) Options {
	pick := func(a, b string) string {
		if a != "" {
			return a
		}
		return b
	}
	out := Options{
		Tokens: pick(o.Tokens, base.Tokens), Endpoint: pick(o.Endpoint, base.Endpoint), HopLimit: o.HopLimit,
		IPv6: pick(o.IPv6, base.IPv6), Tags: pick(o.Tags, base.Tags),
	}
	if out.HopLimit == 0 {
		out.HopLimit = base.HopLimit
	}
	return out
}

// ValidHopLimit reports a hop limit AWS would refuse (1…64).
func ValidHopLimit(n int) error {
	if n < 1 || n > 64 {
		return fmt.Errorf("hop limit %d: AWS takes 1 to 64", n)
	}
	return nil
}
