package imds

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// TokensUnsupported is a value of State.Options.Tokens that no EC2 instance has: the service knows no tokens, as stand-ins for it that
// were made before IMDSv2 do not. The token's path is not there, and a token that comes with a GET is not looked at.
const TokensUnsupported = "unsupported"

// State is the instance that a Service plays. What is empty is made up from the instance id, the same for the same id, unless the
// field's comment says that it is then absent.
type State struct {
	// Options are the metadata options. Unset ones are what EC2 has where nobody decides: tokens optional, the endpoint enabled, hop
	// limit 1, no IPv6, no tags. Tokens may also be TokensUnsupported.
	Options fleet.Options

	InstanceID   string
	InstanceType string
	ImageID      string
	Account      fleet.AccountID
	Region       fleet.Region
	Zone         string // availability zone: its name
	ZoneID       string // and its id; absent where empty
	Architecture string // of the identity document: x86_64 or arm64
	Launched     time.Time
	LifeCycle    string // on-demand or spot
	Reservation  string
	// Monitoring is enabled where CloudWatch watches the instance in detail, or disabled.
	Monitoring string

	// Role is the name of the role whose credentials are given; absent where empty, and so is all of iam/.
	Role string
	// Profile is the ARN of the instance profile; empty is a profile of the role's name.
	Profile string

	Hostname       string
	LocalIPv4      string
	PublicIPv4     string // absent where empty
	PublicHostname string // absent where empty
	IPv6           string // absent where empty
	MAC            string
	InterfaceID    string
	SubnetID       string
	VPC            string
	SecurityGroups []string // names
	GroupIDs       []string

	// KeyName and PublicKey are those of the key pair; absent where the key is empty.
	KeyName, PublicKey string
	// ProductCodes are those of AWS Marketplace; absent where there are none.
	ProductCodes []string
	// Tags are shown under tags/instance/ where the options enable that.
	Tags map[string]string
	// UserData is given as it is; absent where empty.
	UserData []byte
	// Target is the lifecycle state that Auto Scaling moves the instance to; absent where empty.
	Target string
	// SpotAction (hibernate, stop or terminate) at SpotTime says that a Spot Instance is about to be taken; absent where empty. Both go
	// together.
	SpotAction string
	SpotTime   time.Time
	// Rebalance is when a rebalance recommendation was made; absent where zero.
	Rebalance time.Time
	// Scheduled and History are the JSON of events/maintenance/; an empty list where empty.
	Scheduled, History string
}

// stateFile is a State as it is written down.
type stateFile struct {
	Tokens         string            `yaml:"tokens"`
	Endpoint       string            `yaml:"endpoint"`
	HopLimit       *int              `yaml:"hop_limit"`
	ProtocolIPv6   string            `yaml:"ipv6"`
	InstanceTags   string            `yaml:"instance_tags"`
	InstanceID     string            `yaml:"instance_id"`
	InstanceType   string            `yaml:"instance_type"`
	ImageID        string            `yaml:"image_id"`
	Account        string            `yaml:"account"`
	Region         string            `yaml:"region"`
	Zone           string            `yaml:"availability_zone"`
	ZoneID         string            `yaml:"availability_zone_id"`
	Architecture   string            `yaml:"architecture"`
	Launched       time.Time         `yaml:"launched"`
	LifeCycle      string            `yaml:"life_cycle"`
	Reservation    string            `yaml:"reservation_id"`
	Monitoring     string            `yaml:"monitoring"`
	Role           string            `yaml:"role"`
	Profile        string            `yaml:"instance_profile"`
	Hostname       string            `yaml:"hostname"`
	LocalIPv4      string            `yaml:"local_ipv4"`
	PublicIPv4     string            `yaml:"public_ipv4"`
	PublicHostname string            `yaml:"public_hostname"`
	AddressIPv6    string            `yaml:"ipv6_address"`
	MAC            string            `yaml:"mac"`
	InterfaceID    string            `yaml:"interface_id"`
	SubnetID       string            `yaml:"subnet_id"`
	VPC            string            `yaml:"vpc_id"`
	SecurityGroups []string          `yaml:"security_groups"`
	GroupIDs       []string          `yaml:"security_group_ids"`
	KeyName        string            `yaml:"key_name"`
	PublicKey      string            `yaml:"public_key"`
	ProductCodes   []string          `yaml:"product_codes"`
	Tags           map[string]string `yaml:"tags"`
	UserData       *string           `yaml:"user_data"`
	Target         string            `yaml:"target_lifecycle_state"`
	SpotAction     string            `yaml:"spot_action"`
	SpotTime       time.Time         `yaml:"spot_time"`
	Rebalance      time.Time         `yaml:"rebalance_recommended"`
	Scheduled      string            `yaml:"scheduled_events"`
	History        string            `yaml:"event_history"`
}

// ParseState reads a state from YAML, or from JSON, which YAML includes. The name stands in errors. Unknown keys are errors, and so is
// what New would refuse.
func ParseState(data []byte, name string) (State, error) {
	var f stateFile
	if err := f.load(data); err != nil {
		return State{}, fmt.Errorf("%s: %w", name, err)
	}
	s := f.state()
	if f.HopLimit != nil {
		if err := fleet.ValidHopLimit(*f.HopLimit); err != nil {
			return State{}, fmt.Errorf("%s: hop_limit: %w", name, err)
		}
		s.Options.HopLimit = *f.HopLimit
	}
	if f.UserData != nil {
		s.UserData = []byte(*f.UserData)
	}
	if err := s.complete(time.Unix(0, 0)).validate(); err != nil {
		return State{}, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// load reads the one document of a file; none is an empty one.
func (f *stateFile) load(data []byte) error {
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithKnownFields())
	if err != nil {
		return err
	}
	if err := loader.Load(f); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	if err := loader.Load(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("a second YAML document begins; keep one")
	}
	return nil
}

func (f stateFile) state() State {
	return State{
		Options:    fleet.Options{Tokens: f.Tokens, Endpoint: f.Endpoint, IPv6: f.ProtocolIPv6, Tags: f.InstanceTags},
		InstanceID: f.InstanceID, InstanceType: f.InstanceType, ImageID: f.ImageID, Account: fleet.AccountID(f.Account),
		Region: fleet.Region(f.Region), Zone: f.Zone, ZoneID: f.ZoneID, Architecture: f.Architecture, Launched: f.Launched,
		LifeCycle: f.LifeCycle, Reservation: f.Reservation, Monitoring: f.Monitoring, Role: f.Role, Profile: f.Profile, Hostname: f.Hostname,
		LocalIPv4: f.LocalIPv4, PublicIPv4: f.PublicIPv4, PublicHostname: f.PublicHostname, IPv6: f.AddressIPv6, MAC: f.MAC,
		InterfaceID: f.InterfaceID, SubnetID: f.SubnetID, VPC: f.VPC, SecurityGroups: f.SecurityGroups, GroupIDs: f.GroupIDs,
		KeyName: f.KeyName, PublicKey: f.PublicKey, ProductCodes: f.ProductCodes, Tags: f.Tags, Target: f.Target,
		SpotAction: f.SpotAction, SpotTime: f.SpotTime, Rebalance: f.Rebalance, Scheduled: f.Scheduled, History: f.History,
	}
}

// complete fills in what the state leaves open.
func (s State) complete(now time.Time) State {
	s.Options = s.Options.Over(fleet.Options{
		Tokens: fleet.TokensOptional, Endpoint: fleet.Enabled, HopLimit: 1, IPv6: fleet.Disabled, Tags: fleet.Disabled,
	})
	s.Tags, s.SecurityGroups, s.GroupIDs = maps.Clone(s.Tags), slices.Clone(s.SecurityGroups), slices.Clone(s.GroupIDs)
	s.ProductCodes, s.UserData = slices.Clone(s.ProductCodes), slices.Clone(s.UserData)
	s.InstanceID = cmp.Or(s.InstanceID, "i-0123456789abcdef0")
	sum := sha256.Sum256([]byte(s.InstanceID))
	made := func(prefix string, at int) string {
		return fmt.Sprintf("%s-%x", prefix, sum[at:at+8])[:len(prefix)+1+16] + "0"
	}
	s.InstanceType = cmp.Or(s.InstanceType, "m7i.large")
	s.ImageID = cmp.Or(s.ImageID, made("ami", 0))
	s.Account = cmp.Or(s.Account, "111122223333")
	s.Region = cmp.Or(s.Region, regionOf(s.Zone), "us-east-1")
	s.Zone = cmp.Or(s.Zone, string(s.Region)+"a")
	s.Architecture = cmp.Or(s.Architecture, architecture(s.InstanceType))
	if s.SpotAction != "" {
		s.LifeCycle = cmp.Or(s.LifeCycle, "spot")
	}
	s.LifeCycle = cmp.Or(s.LifeCycle, "on-demand")
	s.Reservation = cmp.Or(s.Reservation, made("r", 2))
	s.Monitoring = cmp.Or(s.Monitoring, fleet.Disabled)
	if s.Launched.IsZero() {
		s.Launched = now
	}
	s.LocalIPv4 = cmp.Or(s.LocalIPv4, fmt.Sprintf("10.0.%d.%d", sum[4], 4+sum[5]%250))
	s.Hostname = cmp.Or(s.Hostname, hostname(s.LocalIPv4, s.Region))
	s.MAC = cmp.Or(s.MAC, fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", sum[6], sum[7], sum[8], sum[9], sum[10]))
	s.InterfaceID = cmp.Or(s.InterfaceID, made("eni", 11))
	s.SubnetID = cmp.Or(s.SubnetID, made("subnet", 12))
	s.VPC = cmp.Or(s.VPC, made("vpc", 13))
	if len(s.SecurityGroups) == 0 {
		s.SecurityGroups = []string{"default"}
	}
	if len(s.GroupIDs) == 0 {
		s.GroupIDs = []string{made("sg", 14)}
	}
	if s.Role != "" && s.Profile == "" {
		s.Profile = fmt.Sprintf("arn:%s:iam::%s:instance-profile/%s", fleet.PartitionOf(s.Region), s.Account, s.Role)
	}
	s.KeyName = cmp.Or(s.KeyName, "my-public-key")
	s.Scheduled, s.History = cmp.Or(s.Scheduled, "[]"), cmp.Or(s.History, "[]")
	return s
}

// zoneName is the name of a zone: that of its region, then a letter, or a place and a number and a letter (Local Zones and Wavelength).
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-regions-availability-zones.html
var zoneName = regexp.MustCompile(`^([a-z]+(?:-[a-z]+)+-[0-9]+)(?:[a-z]|-.+)$`)

// regionOf is the region of a zone, or empty where the name is none of a zone.
func regionOf(zone string) fleet.Region {
	if m := zoneName.FindStringSubmatch(zone); m != nil {
		return fleet.Region(m[1])
	}
	return ""
}

// hostname is the private name that EC2 gives by address.
func hostname(address string, r fleet.Region) string {
	name := "ip-" + strings.ReplaceAll(address, ".", "-")
	if r == "us-east-1" {
		return name + ".ec2.internal"
	}
	return name + "." + string(r) + ".compute.internal"
}

// architecture tells that of an instance type by its name: families of Graviton processors have a g after their generation.
func architecture(instanceType string) string {
	family, _, _ := strings.Cut(instanceType, ".")
	generation := strings.IndexAny(family, "0123456789")
	if family == "a1" || generation > 0 && strings.Contains(family[generation:], "g") {
		return "arm64"
	}
	return "x86_64"
}

// shownKey is a tag's key that the metadata can show, in the words of the error that EC2 gives for others.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html
var shownKey = regexp.MustCompile(`^[0-9a-zA-Z\-_+=,.@:]{1,255}$`)

// validate says what of a completed state EC2 could not have.
func (s State) validate() error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	choice := func(name, value string, of ...string) {
		if !slices.Contains(of, value) {
			problem("%s %q: want %s", name, value, strings.Join(of, " or "))
		}
	}
	choice("tokens", s.Options.Tokens, fleet.TokensOptional, fleet.TokensRequired, TokensUnsupported)
	choice("endpoint", s.Options.Endpoint, fleet.Enabled, fleet.Disabled)
	choice("ipv6", s.Options.IPv6, fleet.Enabled, fleet.Disabled)
	choice("instance tags", s.Options.Tags, fleet.Enabled, fleet.Disabled)
	choice("life cycle", s.LifeCycle, "on-demand", "spot")
	choice("monitoring", s.Monitoring, fleet.Enabled, fleet.Disabled)
	choice("spot action", s.SpotAction, "", "hibernate", "stop", "terminate")
	// https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html
	choice("target lifecycle state", s.Target, "", "Detached", "InService", "Standby", "Terminated",
		"Warmed:Hibernated", "Warmed:Running", "Warmed:Stopped", "Warmed:Terminated")
	if s.SpotAction != "" && s.SpotTime.IsZero() {
		problem("spot action %q: say when, as the spot time", s.SpotAction)
	}
	if s.SpotAction != "" && s.LifeCycle != "spot" {
		problem("spot action %q: an instance whose life cycle is %s is never taken", s.SpotAction, s.LifeCycle)
	}
	if err := fleet.ValidHopLimit(s.Options.HopLimit); err != nil {
		problems = append(problems, err)
	}
	if !s.Account.Valid() {
		problem("account %q: want twelve digits", s.Account)
	}
	if a, err := netip.ParseAddr(s.LocalIPv4); err != nil || !a.Is4() {
		problem("private address %q: want an IPv4 address", s.LocalIPv4)
	}
	if a, err := netip.ParseAddr(s.IPv6); s.IPv6 != "" && (err != nil || !a.Is6()) {
		problem("IPv6 address %q: want an IPv6 address, or none", s.IPv6)
	}
	if a, err := netip.ParseAddr(s.PublicIPv4); s.PublicIPv4 != "" && (err != nil || !a.Is4()) {
		problem("public address %q: want an IPv4 address, or none", s.PublicIPv4)
	}
	switch {
	case regionOf(string(s.Region)+"a") != s.Region:
		problem("region %q: want a region's name, such as eu-west-1", s.Region)
	case regionOf(s.Zone) != s.Region:
		problem("zone %q: want one of %s, such as %[2]sa", s.Zone, s.Region)
	}
	for _, list := range []struct{ what, events string }{{"scheduled events", s.Scheduled}, {"event history", s.History}} {
		if !json.Valid([]byte(list.events)) {
			problem("%s %q: want JSON, a list of events", list.what, list.events)
		}
	}
	names := map[string]string{"instance id": s.InstanceID, "role": s.Role, "MAC address": s.MAC, "zone": s.Zone, "key name": s.KeyName}
	for _, what := range slices.Sorted(maps.Keys(names)) {
		if strings.ContainsFunc(names[what], func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) {
			problem("%s %q: want no blanks and no slash", what, names[what])
		}
	}
	if s.Options.Tags == fleet.Enabled {
		for _, key := range slices.Sorted(maps.Keys(s.Tags)) {
			if key == "." || key == ".." || key == "_index" || !shownKey.MatchString(key) {
				problem("tag %q: EC2 shows an instance's tags only while all keys are of A-Z, a-z, 0-9 and + - = . , _ : @, and none is ., .. or _index", key)
			}
		}
	}
	return errors.Join(problems...)
}
