// Package imagebuilder is the simulator's EC2 Image Builder, as far as it decides how the instances are launched that build
// and test images: infrastructure configurations.
//
// It owns them whole. An update sets what it is sent and resets what it is not, as AWS's does, and is visible at once. No image
// is built here.
package imagebuilder

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Name is the service's name, and that of its section in a seed's region.
const Name = "imagebuilder"

// Service declares Image Builder. It publishes no rates; the buckets are of a size that a client without a limit of its own
// meets.
func Service() *core.Service {
	read, write := core.Bucket{Burst: 20, Refill: 10}, core.Bucket{Burst: 10, Refill: 1}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.RESTJSON}, ThrottleCode: "CallRateLimitExceededException",
		Actions: map[string]core.Action{
			"ListInfrastructureConfigurations": {
				Route: "POST /ListInfrastructureConfigurations", Params: []string{"filters", "maxResults", "nextToken"},
				Bucket: read, Handle: list,
			},
			"GetInfrastructureConfiguration": {
				Route:  "GET /GetInfrastructureConfiguration?infrastructureConfigurationArn",
				Params: []string{"infrastructureConfigurationArn"}, Bucket: read, Access: access, Handle: get,
			},
			"UpdateInfrastructureConfiguration": {
				Route: "PUT /UpdateInfrastructureConfiguration", Mutating: true, Bucket: write, Access: accessUpdate,
				Params: append(memberNames(), "infrastructureConfigurationArn", "clientToken"), Handle: update,
			},
		},
		SeedPlace: seedPlace,
	}
}

func access(c *core.Call) []core.Access {
	return []core.Access{{Resource: c.In.Str("infrastructureConfigurationArn")}}
}

// accessUpdate passes the role of the instance profile on, and looks at what else the configuration names with the caller's
// permissions: its dependent actions in
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2imagebuilder.html
func accessUpdate(c *core.Call) []core.Access {
	needs := append(access(c), core.Access{
		Action: "iam:PassRole", Condition: map[string][]string{"iam:passedtoservice": {"ec2.amazonaws.com"}},
		Resource: "arn:" + string(c.Place.Partition) + ":iam::" + string(c.Place.Account) + ":role/" +
			c.In.Str("instanceProfileName"),
	})
	if topic := c.In.Str("snsTopicArn"); topic != "" {
		needs = append(needs, core.Access{Action: "sns:Publish", Resource: topic})
	}
	on := c.In.Get("placement")
	for _, need := range [][2]string{
		{"availabilityZone", "ec2:DescribeAvailabilityZones"}, {"hostId", "ec2:DescribeHosts"},
	} {
		if on.Str(need[0]) != "" {
			needs = append(needs, core.Access{Action: need[1]})
		}
	}
	if group := on.Str("hostResourceGroupArn"); group != "" {
		needs = append(needs, core.Access{Action: "resource-groups:GetGroup", Resource: group})
	}
	return needs
}

// Config is an infrastructure configuration: the section of a seed, and what updates replace.
type Config struct {
	Name            string            `json:"name"`
	Description     string            `json:"description,omitempty"`
	InstanceTypes   []string          `json:"instance_types,omitempty"`
	InstanceProfile string            `json:"instance_profile"`
	SecurityGroups  []string          `json:"security_groups,omitempty"`
	Subnet          string            `json:"subnet,omitempty"`
	KeyPair         string            `json:"key_pair,omitempty"`
	SNSTopic        string            `json:"sns_topic,omitempty"`
	LogBucket       string            `json:"log_bucket,omitempty"`
	LogPrefix       string            `json:"log_prefix,omitempty"`
	EndOnFailure    *bool             `json:"terminate_instance_on_failure,omitempty"`
	EndOnCompletion *bool             `json:"terminate_instance_on_completion,omitempty"`
	ResourceTags    map[string]string `json:"resource_tags,omitempty"`
	Tags            map[string]string `json:"tags,omitempty"`
	HTTPTokens      string            `json:"http_tokens,omitempty"`
	HopLimit        int               `json:"hop_limit,omitempty"`
	Placement       map[string]string `json:"placement,omitempty"` // by the API's names
	// ParentGroup is the Auto Scaling group whose instances are built on; ParentWait bounds, in seconds, the wait for one.
	ParentGroup string `json:"parent_group,omitempty"`
	ParentWait  *int64 `json:"parent_wait,omitempty"`
}

// Seed is the section "imagebuilder" of a seed's region.
type Seed struct {
	Infrastructure []Config `json:"infrastructure,omitempty"`
}

// configuration is a Config with what updates leave alone.
type configuration struct {
	Config
	arn              string
	created, updated time.Time
}

// store is Image Builder in one place.
type store struct {
	configs map[string]*configuration // by ARN
	tokens  map[string]string         // the request of each client token
}

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any {
		return &store{configs: map[string]*configuration{}, tokens: map[string]string{}}
	}).(*store)
}

var validName = regexp.MustCompile(`^[-_A-Za-z0-9][-_A-Za-z0-9 ]{1,126}[-_A-Za-z0-9]$`)

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s, now := storeOf(p), p.World().Now()
	for i, c := range in.Infrastructure {
		here := fmt.Sprintf("%s.infrastructure[%d]", path, i)
		arn := "arn:" + string(p.Partition) + ":imagebuilder:" + string(p.Region) + ":" + string(p.Account) +
			":infrastructure-configuration/" + strings.ToLower(strings.ReplaceAll(c.Name, " ", "-"))
		if !validName.MatchString(c.Name) || s.configs[arn] != nil {
			return fmt.Errorf("%s: %q is not a configuration's name, or is there already", here, c.Name)
		}
		if err := c.check(); err != nil {
			return fmt.Errorf("%s: %w", here, err)
		}
		s.configs[arn] = &configuration{Config: c, arn: arn, created: now.AddDate(-1, 0, 0)}
	}
	return nil
}

// check finds what the API would refuse.
func (c *Config) check() error {
	switch {
	case c.InstanceProfile == "":
		return invalid("instanceProfileName: a value is required")
	case c.HTTPTokens != "" && c.HTTPTokens != fleet.TokensOptional && c.HTTPTokens != fleet.TokensRequired:
		return invalid("instanceMetadataOptions.httpTokens: %q is neither optional nor required", c.HTTPTokens)
	case c.HopLimit != 0 && fleet.ValidHopLimit(c.HopLimit) != nil:
		return invalid("instanceMetadataOptions.httpPutResponseHopLimit: %d is not 1 to 64", c.HopLimit)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return wire.Errorf("InvalidRequestException", format, args...)
}

// find finds the configuration that a call names.
func find(c *core.Call) (*configuration, error) {
	arn := c.In.Str("infrastructureConfigurationArn")
	if found := storeOf(c.Place).configs[arn]; found != nil {
		c.Touch(arn)
		return found, nil
	}
	return nil, &wire.Error{
		Code: "ResourceNotFoundException", Status: http.StatusNotFound,
		Message: "The resource with ARN '" + arn + "' cannot be found.",
	}
}

func list(c *core.Call) error {
	s := storeOf(c.Place)
	var arns []string
	for arn, cfg := range s.configs {
		match, err := matches(c, cfg)
		if err != nil {
			return err
		}
		if match {
			arns = append(arns, arn)
		}
	}
	slices.Sort(arns)
	size, set, err := c.In.Int("maxResults")
	if err != nil || set && (size < 1 || size > 100) {
		return invalid("maxResults must be a number from 1 to 100")
	}
	if token := c.In.Str("nextToken"); token != "" {
		after, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || !strings.HasPrefix(string(after), "arn:") {
			return wire.Errorf("InvalidPaginationTokenException", "The pagination token %q is not valid.", token)
		}
		arns = slices.DeleteFunc(arns, func(arn string) bool { return arn <= string(after) })
	}
	next := ""
	if most := 25; !set && len(arns) > most || set && int64(len(arns)) > size {
		if set {
			most = int(size)
		}
		arns = arns[:most]
		next = base64.RawURLEncoding.EncodeToString([]byte(arns[most-1]))
	}
	c.Out.Str("requestId", c.RequestID)
	c.Out.List("infrastructureConfigurationSummaryList", func() {
		for _, arn := range arns {
			c.Out.Struct("", func() { s.configs[arn].writeSummary(c.Out) })
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

// matches applies the only filter that AWS documents for these: the name.
func matches(c *core.Call, cfg *configuration) (bool, error) {
	for _, f := range c.In.Items("filters") {
		if f.Str("name") != "name" {
			return false, invalid("The filter %q is not valid.", f.Str("name"))
		}
		if !slices.Contains(f.Strings("values"), cfg.Name) {
			return false, nil
		}
	}
	return true, nil
}

func get(c *core.Call) error {
	cfg, err := find(c)
	if err != nil {
		return err
	}
	c.Out.Str("requestId", c.RequestID)
	c.Out.Struct("infrastructureConfiguration", func() { cfg.write(c.Out) })
	return nil
}

// update replaces the configuration by what the request holds. A request under a token that was used before changes nothing.
func update(c *core.Call) error {
	cfg, err := find(c)
	if err != nil {
		return err
	}
	s, token, asked := storeOf(c.Place), c.In.Str("clientToken"), strings.Join(c.In.Flat(), "\n")
	if token == "" {
		return invalid("clientToken: a value is required")
	}
	if was, used := s.tokens[token]; used && was != asked {
		return wire.Errorf("IdempotentParameterMismatchException", "The client token was used with other parameters.")
	} else if !used {
		next, err := parse(c.In)
		if err != nil {
			return err
		}
		next.Name, next.Tags = cfg.Name, cfg.Tags
		if err := next.check(); err != nil {
			return err
		}
		cfg.Config, cfg.updated = next, c.Now
		s.tokens[token] = asked
		c.Mutated(cfg.arn)
	}
	c.Out.Str("requestId", c.RequestID)
	c.Out.Str("clientToken", token)
	c.Out.Str("infrastructureConfigurationArn", cfg.arn)
	return nil
}
