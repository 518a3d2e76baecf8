package elasticbeanstalk

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// mostRecords is the largest page of DescribeEnvironments (its MaxRecords).
const mostRecords = 1000

// describeEnvironments lists environments in the order in which they were made. Without a page size all come at once.
func describeEnvironments(c *core.Call) error {
	size, after, err := page(c)
	if err != nil {
		return err
	}
	deleted, _, err := c.In.Bool("IncludeDeleted")
	if err != nil {
		return invalid("IncludeDeleted must be true or false.")
	}
	var shown []*environment
	begun, more := after == "", false
	for _, e := range storeOf(c.Place).environments {
		status := e.state.Seen(c.Now).status
		switch {
		case !begun:
			begun = e.id == after
		case status == statusTerminated && !deleted || !asked(c, e):
		case len(shown) == size:
			more = true
		default:
			shown = append(shown, e)
		}
		if more {
			break
		}
	}
	c.Out.List("Environments", func() {
		for _, e := range shown {
			c.Out.Struct("", func() { writeEnvironment(c, e, e.state.Seen(c.Now)) })
		}
	})
	if more {
		c.Out.Str("NextToken", base64.RawURLEncoding.EncodeToString([]byte(shown[len(shown)-1].id)))
	}
	return nil
}

// page reads MaxRecords and NextToken: the size of the page, and the id after which it begins.
func page(c *core.Call) (size int, after string, err error) {
	n, set, err := c.In.Int("MaxRecords")
	if err != nil || set && (n < 1 || n > mostRecords) {
		return 0, "", wire.Errorf("ValidationError", "Value at 'maxRecords' failed to satisfy constraint: Member must be "+
			"between 1 and %d", mostRecords)
	}
	size = len(storeOf(c.Place).environments)
	if set {
		size = int(n)
	}
	if token := c.In.Str("NextToken"); token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || !environmentID.Match(b) {
			return 0, "", invalid("The token '%s' is not valid.", token)
		}
		after = string(b)
	}
	return size, after, nil
}

// asked tells whether an environment is among those that the request asks for.
func asked(c *core.Call, e *environment) bool {
	ids, names, application := c.In.Strings("EnvironmentIds"), c.In.Strings("EnvironmentNames"), c.In.Str("ApplicationName")
	return (len(ids) == 0 || slices.Contains(ids, e.id)) && (len(names) == 0 || slices.Contains(names, e.name)) &&
		(application == "" || application == e.application)
}

func writeEnvironment(c *core.Call, e *environment, s *state) {
	w := c.Out
	w.Str("EnvironmentName", e.name)
	w.Str("EnvironmentId", e.id)
	w.Str("ApplicationName", e.application)
	w.Opt("SolutionStackName", e.stack)
	w.Opt("PlatformArn", e.platform)
	w.Str("EndpointURL", "awseb-"+e.id+"."+string(c.Place.Region)+".elb.amazonaws.com")
	w.Str("CNAME", e.name+"."+string(c.Place.Region)+".elasticbeanstalk.com")
	w.Time("DateCreated", e.created)
	w.Time("DateUpdated", s.updated)
	w.Str("Status", s.status)
	w.Bool("AbortableOperationInProgress", s.status == statusUpdating)
	w.Str("Health", map[bool]string{true: "Green", false: "Grey"}[s.status == statusReady])
	w.Struct("Tier", func() {
		w.Str("Name", "WebServer")
		w.Str("Type", "Standard")
		w.Str("Version", "1.0")
	})
	w.List("EnvironmentLinks", func() {})
	w.Str("EnvironmentArn", e.arn(c))
}

// describeSettings gives the deployed settings and, while others are being deployed or after they failed to, those.
func describeSettings(c *core.Call) error {
	if c.In.Str("ApplicationName") == "" {
		return wire.Errorf("MissingParameter", "ApplicationName is required.")
	}
	e, err := environmentFor(c)
	if err != nil {
		return err
	}
	if e.application != c.In.Str("ApplicationName") {
		return invalid("No Environment found for EnvironmentName = '%s'.", e.name)
	}
	s := e.state.Seen(c.Now)
	c.Out.List("ConfigurationSettings", func() {
		if s.draft != nil {
			status := "pending"
			if s.failed {
				status = "failed"
			}
			c.Out.Struct("", func() { writeSettings(c.Out, e, s, status, s.draft) })
		}
		c.Out.Struct("", func() { writeSettings(c.Out, e, s, "deployed", s.options) })
	})
	return nil
}

func writeSettings(w *wire.Writer, e *environment, s *state, status string, options map[string]string) {
	w.Opt("SolutionStackName", e.stack)
	w.Opt("PlatformArn", e.platform)
	w.Str("ApplicationName", e.application)
	w.Str("EnvironmentName", e.name)
	w.Str("DeploymentStatus", status)
	w.Time("DateCreated", e.created)
	w.Time("DateUpdated", s.updated)
	w.List("OptionSettings", func() {
		for _, key := range slices.Sorted(maps.Keys(options)) {
			namespace, name, _ := strings.Cut(key, "/")
			w.Struct("", func() {
				if namespace == launchNamespace {
					w.Str("ResourceName", "AWSEBAutoScalingLaunchConfiguration")
				}
				w.Str("Namespace", namespace)
				w.Str("OptionName", name)
				w.Str("Value", options[key])
			})
		}
		if _, ok := options[launchNamespace+"/EC2KeyName"]; !ok { // as an option without a value reads
			w.Struct("", func() {
				w.Str("ResourceName", "AWSEBAutoScalingLaunchConfiguration")
				w.Str("Namespace", launchNamespace)
				w.Str("OptionName", "EC2KeyName")
			})
		}
	})
}

func describeResources(c *core.Call) error {
	e, err := environmentFor(c)
	if err != nil {
		return err
	}
	w := c.Out
	w.Struct("EnvironmentResources", func() {
		w.Str("EnvironmentName", e.name)
		w.List("AutoScalingGroups", func() {
			for _, name := range e.groups {
				w.Struct("", func() { w.Str("Name", name) })
			}
		})
		w.List("Instances", func() {
			for _, id := range e.instances(c.Place) {
				w.Struct("", func() { w.Str("Id", id) })
			}
		})
		for _, name := range []string{"LaunchConfigurations", "LaunchTemplates", "LoadBalancers", "Triggers", "Queues"} {
			w.List(name, func() {})
		}
	})
	return nil
}

func listTags(c *core.Call) error {
	arn := c.In.Str("ResourceArn")
	i := slices.IndexFunc(storeOf(c.Place).environments, func(e *environment) bool { return e.arn(c) == arn && !e.gone() })
	if i < 0 {
		return notThere(arn)
	}
	e := storeOf(c.Place).environments[i]
	c.Touch(e.id)
	c.Out.Str("ResourceArn", arn)
	c.Out.List("ResourceTags", func() {
		for _, key := range slices.Sorted(maps.Keys(e.tags)) {
			c.Out.Struct("", func() {
				c.Out.Str("Key", key)
				c.Out.Str("Value", e.tags[key])
			})
		}
	})
	return nil
}
