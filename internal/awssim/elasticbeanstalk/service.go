package elasticbeanstalk

import (
	"net/http"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Service declares Elastic Beanstalk.
//
// Beanstalk publishes no rates for its calls. The buckets are of the size that its accounts are known to get, so that a
// client without a limit of its own is throttled sooner or later.
func Service() *core.Service {
	read := core.Bucket{Burst: 50, Refill: 10}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.Query}, Namespace: "http://elasticbeanstalk.amazonaws.com/docs/2010-12-01/",
		Actions: map[string]core.Action{
			"DescribeEnvironments": {
				Bucket: read, Handle: describeEnvironments,
				Params: []string{"ApplicationName", "EnvironmentIds", "EnvironmentNames", "IncludeDeleted", "MaxRecords", "NextToken"},
			},
			"DescribeConfigurationSettings": {
				Bucket: read, Access: access, Handle: describeSettings, Params: []string{"ApplicationName", "EnvironmentName"},
			},
			"DescribeEnvironmentResources": {
				Bucket: read, Access: access, Handle: describeResources, Params: []string{"EnvironmentId", "EnvironmentName"},
			},
			"ListTagsForResource": {
				Bucket: read, Access: access, Handle: listTags, Params: []string{"ResourceArn"},
			},
			"UpdateEnvironment": {
				Mutating: true, Bucket: core.Bucket{Burst: 10, Refill: 3}, Access: access, Handle: updateEnvironment,
				Params: []string{"ApplicationName", "EnvironmentId", "EnvironmentName", "OptionSettings", "OptionsToRemove"},
			},
		},
		SeedPlace: seedPlace,
	}
}

// access needs the environment that the request names (service authorization reference, "environment").
func access(c *core.Call) []core.Access {
	if arn := c.In.Str("ResourceArn"); arn != "" {
		return []core.Access{{Resource: arn}}
	}
	e := storeOf(c.Place).find(c.In.Str("EnvironmentId"), c.In.Str("EnvironmentName"))
	if e == nil {
		return []core.Access{{Resource: c.ARN(Name, "environment/*")}}
	}
	a := core.Access{Resource: e.arn(c), Condition: map[string][]string{}}
	for key, value := range e.tags {
		a.Condition["aws:resourcetag/"+key] = []string{value}
	}
	return []core.Access{a}
}

func (e *environment) arn(c *core.Call) string {
	return c.ARN(Name, "environment/"+e.application+"/"+e.name)
}

// environmentFor finds the environment that a request names.
func environmentFor(c *core.Call) (*environment, error) {
	id, name := c.In.Str("EnvironmentId"), c.In.Str("EnvironmentName")
	if id == "" && name == "" {
		return nil, wire.Errorf("MissingRequiredParameter", "Either EnvironmentId or EnvironmentName must be specified.")
	}
	e := storeOf(c.Place).find(id, name)
	if e == nil || e.gone() {
		if id != "" {
			return nil, invalid("No Environment found for EnvironmentId = '%s'.", id)
		}
		return nil, invalid("No Environment found for EnvironmentName = '%s'.", name)
	}
	c.Touch(e.id)
	return e, nil
}

func invalid(format string, args ...any) error {
	return wire.Errorf("InvalidParameterValue", format, args...)
}

func notThere(arn string) error {
	return &wire.Error{
		Code: "ResourceNotFoundException", Message: "Resource not found for arn '" + arn + "'.", Status: http.StatusBadRequest,
	}
}
