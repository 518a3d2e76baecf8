// Package ssm is the simulator's Run Command of AWS Systems Manager: documents are sent to instances, run there within
// simulated seconds, and are found again by listing.
//
// It owns the commands, which instances are managed, and what their agents report. What a command does on its instance is one thing: it starts the
// simulated programs anew, through Hosts, so that what a program remembers since its start is forgotten. Every run is
// kept, so that a test can tell once from twice. Commands show up late, as everything does under the world's
// consistency delay, and an instance whose agent is not there is refused, as AWS refuses it.
package ssm

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Name is the service's name, and that of its section in a seed's region.
const Name = "ssm"

// Hosts is what a command reaches on an instance. It is called with the place locked for writing.
type Hosts interface {
	// Restart starts all programs of an instance anew.
	Restart(p *core.Place, instance string, now time.Time)
}

// Service declares Run Command over the given instances.
//
// Systems Manager publishes no rates for these calls. The buckets are of the size that its accounts are known to get,
// so that a client without a limit of its own is throttled sooner or later.
func Service(hosts Hosts) *core.Service {
	s := &service{hosts: hosts}
	list := core.Bucket{Burst: 20, Refill: 10}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.JSON11}, Targets: []string{"AmazonSSM"},
		Actions: map[string]core.Action{
			"SendCommand": {
				Mutating: true, Bucket: core.Bucket{Burst: 20, Refill: 5}, Access: accessSend, Handle: s.sendCommand,
			},
			"ListCommands":           {Bucket: list, Handle: listCommands},
			"ListCommandInvocations": {Bucket: list, Handle: listInvocations},
			"GetCommandInvocation":   {Bucket: list, Handle: getInvocation},
			"DescribeInstanceInformation": {Bucket: list, Handle: describeAgents, Params: []string{
				"Filters", "InstanceInformationFilterList", "MaxResults", "NextToken",
			}},
		},
		SeedPlace: seedPlace,
	}
}

type service struct{ hosts Hosts }

// Run is one execution of a command on one instance.
type Run struct {
	Command, Document, Comment, Instance string
	At                                   time.Time
	// Code is what it exited with.
	Code int
}

// Runs lists what ran on an instance, in order. The place must not be locked.
func Runs(p *core.Place, instance string) []Run {
	var out []Run
	p.View(func(time.Time) {
		for _, r := range storeOf(p).runs {
			if r.Instance == instance {
				out = append(out, r)
			}
		}
	})
	return out
}

// SetManaged says whether an instance's agent is registered, which it is unless said otherwise. The place must not be
// locked.
func SetManaged(p *core.Place, instance string, managed bool) {
	p.With(func(time.Time) { storeOf(p).unmanaged[instance] = !managed })
}

// SetExitCode makes every later command on an instance exit with the code. The place must not be locked.
func SetExitCode(p *core.Place, instance string, code int) {
	p.With(func(time.Time) { storeOf(p).codes[instance] = code })
}

// store is the state of one place.
type store struct {
	documents map[string]document
	unmanaged map[string]bool
	codes     map[string]int
	agents    []AgentSeed
	commands  []*command // by serial, which is the position plus one
	byID      map[string]*command
	runs      []Run
}

// document is one that SendCommand may name.
type document struct {
	required []string
	known    []string // parameters besides the required; nil takes any
	scripted bool     // the parameter commands holds lines of a script
}

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any {
		script := document{
			required: []string{"commands"}, known: []string{"workingDirectory", "executionTimeout"}, scripted: true,
		}
		return &store{
			unmanaged: map[string]bool{}, codes: map[string]int{}, byID: map[string]*command{},
			documents: map[string]document{
				"AWS-RunShellScript":      script,
				"AWS-RunPowerShellScript": script,
				"AWS-RunDocument": {required: []string{"sourceType"}, known: []string{
					"sourceInfo", "documentPath", "documentParameters", "workingDirectory", "executionTimeout",
				}},
			},
		}
	}).(*store)
}

// Seed is the section "ssm" of a seed's region.
type Seed struct {
	// Documents are the account's own, which take any parameters.
	Documents []string `json:"documents,omitempty"`
	// Unmanaged are instances without a registered agent.
	Unmanaged []string `json:"unmanaged,omitempty"`
	// ExitCodes are what commands exit with, by instance, where it is not 0.
	ExitCodes map[string]int `json:"exit_codes,omitempty"`
	// Agents report themselves. To a command an instance answers without an entry as well, unless it is unmanaged, so that seeds
	// that only run commands stay small.
	Agents []AgentSeed `json:"agents,omitempty"`
}

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s := storeOf(p)
	for n, name := range in.Documents {
		if _, there := s.documents[name]; there || !documentName.MatchString(name) {
			return fmt.Errorf("%s.documents[%d]: %q is not a document's name, or is there already", path, n, name)
		}
		s.documents[name] = document{}
	}
	for _, id := range in.Unmanaged {
		s.unmanaged[id] = true
	}
	for id, code := range in.ExitCodes {
		s.codes[id] = code
	}
	return s.seedAgents(in.Agents, path)
}

var (
	// The patterns of the Systems Manager API reference, SendCommand.
	documentName = regexp.MustCompile(`^[a-zA-Z0-9_\-.:/]{3,128}$`)
	instanceID   = regexp.MustCompile(`^(i-(\w{8}|\w{17})|mi-\w{17})$`)
	// The pattern of DescribeInstanceInformation's AgentVersion, a shape of the model named Version.
	agentVersion = regexp.MustCompile(`^[0-9]{1,6}(\.[0-9]{1,6}){2,3}$`)
)

// plainName is a document's name without the ARN around it.
func plainName(name string) string {
	if _, plain, ok := strings.Cut(name, ":document/"); ok {
		return plain
	}
	return name
}

// accessSend needs the document and every instance. Amazon's own documents are in no account.
func accessSend(c *core.Call) []core.Access {
	name := c.In.Str("DocumentName")
	arn := name
	if !strings.HasPrefix(name, "arn:") {
		arn = c.ARN(Name, "document/"+name)
		if strings.HasPrefix(name, "AWS") || strings.HasPrefix(name, "Amazon") {
			arn = "arn:" + string(c.Place.Partition) + ":ssm:" + string(c.Place.Region) + "::document/" + name
		}
	}
	out := []core.Access{{Resource: arn}}
	for _, id := range c.In.Strings("InstanceIds") {
		out = append(out, core.Access{Resource: c.ARN("ec2", "instance/"+id), Condition: tagsOf(c, id)})
	}
	return out
}

func tagsOf(c *core.Call, id string) map[string][]string {
	i := ec2.StoreOf(c.Place).Instance(id)
	if i == nil {
		return nil
	}
	m := map[string][]string{}
	for _, t := range i.Newest().Tags {
		m["aws:resourcetag/"+t.Key] = []string{t.Value}
		m["ssm:resourcetag/"+t.Key] = []string{t.Value}
	}
	return m
}
