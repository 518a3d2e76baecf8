package assess

import (
	"strconv"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Origin is who decides a field of a launch.
type Origin string

// Origins, in their order of precedence: EC2 User Guide, "Order of precedence for instance metadata options"
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-options.html#instance-metadata-options-order-of-precedence).
// That what a call sends wins over its launch template is in "RunInstances", LaunchTemplate.
const (
	OriginParameters    Origin = "launch-parameters"
	OriginTemplate      Origin = "template-version"
	OriginConfiguration Origin = "launch-configuration"
	OriginDefault       Origin = "account-default"
	OriginImage         Origin = "image"
	// OriginEC2: nobody says anything, and EC2 has a value of its own.
	OriginEC2 Origin = "ec2-default"
)

// CodeRefusedLaunch is the code of a launcher whose next launch EC2 refuses.
const CodeRefusedLaunch Code = "launch-refused"

// Level is what one level says of a launch; the zero value says nothing.
type Level struct {
	Origin  Origin
	Version string // of a template
	Where   string // its id
	Says    fleet.Options
	// Unread is why it is not known what it says; Says is empty then.
	Unread string
}

// Image is what a launch's AMI says: with ImdsSupport v2.0 tokens are required and the hop limit is 2.
type Image struct {
	ID string
	V2 bool // ImdsSupport is v2.0
	// Unread is why it is not known whether V2 holds.
	Unread string
}

// LaunchInput is all that decides the metadata options of a launch.
type LaunchInput struct {
	// Parameters are what the call itself sends.
	Parameters Level
	// Source is the template version or launch configuration it names; zero where it names none.
	Source Level
	// Default is the account's in the region. It has no word on IPv6.
	Default Level
	// Enforced is HttpTokensEnforced; it is read with Default, and unknown where Default is.
	Enforced string
	Image    Image
	// Service, where set, says that an AWS service launches outside the account, so that neither its defaults nor its images
	// nor EC2's own values bear on it: what it does not say is unknown for this reason.
	Service string
}

// Setting is one field of a launch, and who decides it.
type Setting struct {
	// Value is in EC2's words, a hop limit in digits; empty where it is not known.
	Value   string `json:"value,omitempty"`
	Source  Origin `json:"source,omitempty"`
	Version string `json:"version,omitempty"` // of a template
	Where   string `json:"where,omitempty"`   // the id of what decides; empty for EC2 itself
	// Unknown is why the value is not known.
	Unknown string `json:"unknown,omitempty"`
}

// By names in words who decides.
func (s Setting) By() string {
	switch s.Source {
	case OriginParameters:
		return "launch parameters"
	case OriginTemplate:
		return "template version " + s.Version
	case OriginConfiguration:
		return "launch configuration"
	case OriginDefault:
		return "account default"
	case OriginImage:
		return "image"
	case OriginEC2:
		return "EC2's own default"
	}
	return ""
}

// V1 is whether what is launched would answer IMDSv1.
type V1 string

// Answers, the worst first.
const (
	V1Open    V1 = "open"
	V1Unknown V1 = "unknown"
	// V1Refused: EC2 does not launch it at all.
	V1Refused V1 = "refused"
	V1Closed  V1 = "closed"
)

// rank orders answers: the higher, the weaker.
func (v V1) rank() int {
	switch v {
	case V1Open:
		return 3
	case V1Unknown:
		return 2
	case V1Refused:
		return 1
	default:
		return 0
	}
}

// Launch is the effective setting of one launch, field by field with its source.
type Launch struct {
	Tokens   Setting `json:"tokens"`
	Endpoint Setting `json:"endpoint"`
	HopLimit Setting `json:"hop_limit"`
	IPv6     Setting `json:"ipv6"`
	Tags     Setting `json:"instance_tags"`
	// Refused is why EC2 does not carry the launch out; empty where it does.
	Refused string `json:"refused,omitempty"`
	// MayRefuse is why it is not known whether EC2 does.
	MayRefuse string `json:"may_refuse,omitempty"`
	// enforced: whatever the tokens are, what is launched requires them.
	enforced bool
}

// Effective resolves a launch. Each field is decided by itself, by the first of launch parameters, template, account default and
// image that says it; then HttpTokensEnforced looks at what came out. What was not read leaves those fields unknown that
// nobody before it decides, and no others.
func Effective(in LaunchInput) Launch {
	l := Launch{
		Tokens:   in.decide(func(o fleet.Options) string { return o.Tokens }, true, true, fleet.TokensOptional),
		Endpoint: in.decide(func(o fleet.Options) string { return o.Endpoint }, true, false, fleet.Enabled),
		HopLimit: in.decide(hops, true, true, "1"),
		IPv6:     in.decide(func(o fleet.Options) string { return o.IPv6 }, false, false, fleet.Disabled),
		Tags:     in.decide(func(o fleet.Options) string { return o.Tags }, true, false, fleet.Disabled),
	}
	in.enforce(&l)
	return l
}

func hops(o fleet.Options) string {
	if o.HopLimit < 1 { // "no preference" is -1
		return ""
	}
	return strconv.Itoa(o.HopLimit)
}

// decide asks one level after the other. The account's default and the image have no word on some fields.
func (in LaunchInput) decide(field func(fleet.Options) string, byDefault, byImage bool, own string) Setting {
	levels := []Level{in.Parameters, in.Source}
	if in.Service != "" {
		levels = append(levels, Level{Unread: in.Service})
	}
	if byDefault {
		levels = append(levels, in.Default)
	}
	if byImage {
		levels = append(levels, in.Image.level())
	}
	for _, level := range levels {
		if level.Unread != "" {
			return Setting{Unknown: level.Unread}
		}
		if v := field(level.Says); v != "" && v != fleet.NoPreference {
			return Setting{Value: v, Source: level.Origin, Version: level.Version, Where: level.Where}
		}
	}
	return Setting{Value: own, Source: OriginEC2}
}

// level is the image as a level: "Configure the AMI" in
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-new-instances.html
func (i Image) level() Level {
	l := Level{Origin: OriginImage, Where: i.ID, Unread: i.Unread}
	if i.V2 && i.Unread == "" {
		l.Says = fleet.Options{Tokens: fleet.TokensRequired, HopLimit: 2}
	}
	return l
}

// enforce applies HttpTokensEnforced, "evaluated after the order of precedence has determined the instance's IMDS settings".
func (in LaunchInput) enforce(l *Launch) {
	switch {
	case l.Tokens.Value == fleet.TokensRequired || in.Service != "":
	case in.Default.Unread != "":
		l.MayRefuse = in.Default.Unread
	case in.Enforced != fleet.Enabled: // disabled, or no preference
	case l.Tokens.Unknown != "":
		l.enforced = true
		l.MayRefuse = "HttpTokensEnforced is enabled in this region, and whether its tokens are required is unknown: " + l.Tokens.Unknown
	default:
		l.enforced = true
		l.Refused = "HttpTokensEnforced is enabled in this region, and its tokens are optional by " + l.Tokens.By() +
			": EC2 answers UnsupportedOperation"
	}
}

// V1 tells whether what is launched would answer IMDSv1. What is not known is never held in favour: tokens that are optional
// count as open while nothing that was read refuses the launch or turns the endpoint off.
func (l Launch) V1() V1 {
	switch {
	case l.Refused != "":
		return V1Refused
	case l.Tokens.Value == fleet.TokensRequired || l.Endpoint.Value == fleet.Disabled || l.enforced:
		return V1Closed
	case l.Tokens.Value == fleet.TokensOptional:
		return V1Open
	default:
		return V1Unknown
	}
}

// inherits tells whether the account's default has, or may have, the word on tokens: nobody before it, and no image, decides.
func (l Launch) inherits() bool {
	switch l.Tokens.Source {
	case OriginParameters, OriginTemplate, OriginConfiguration, OriginImage:
		return false
	default:
		return true
	}
}

// Options are the launch's options as people compare them; what is not known is unset.
func (l Launch) Options() fleet.Options {
	n, err := strconv.Atoi(l.HopLimit.Value)
	if err != nil {
		n = 0 // it is not known
	}
	return fleet.Options{Tokens: l.Tokens.Value, Endpoint: l.Endpoint.Value, HopLimit: n, IPv6: l.IPv6.Value, Tags: l.Tags.Value}
}

// closed tells whether the launch is carried out and refuses v1.
func (l Launch) closed() bool {
	return l.Refused == "" && (l.Tokens.Value == fleet.TokensRequired || l.Endpoint.Value == fleet.Disabled)
}
