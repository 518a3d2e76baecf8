package awsx

import (
	"context"
	"reflect"
	"strings"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
)

// iamPrefixes are the services whose IAM prefix is not their SDK name in lower case without blanks.
var iamPrefixes = map[string]string{
	"EMR":                       "elasticmapreduce",
	"Elastic Load Balancing v2": "elasticloadbalancing",
	"WorkSpaces Instances":      "workspaces-instances",
	"Workspaces Instances":      "workspaces-instances",
	"Config Service":            "config", "CloudWatch Logs": "logs", "SESv2": "ses", "Resource Groups Tagging API": "tag",
}

// readVerbs begin the names of calls that change nothing. AssumeRole gives out credentials but leaves nothing behind.
var readVerbs = []string{"Describe", "Get", "List", "Lookup", "Search", "BatchGet", "Simulate", "Decode", "AssumeRole"}

// action is what the edge knows of a call before it is sent.
type action struct {
	name   string // "ec2:DescribeInstances"
	bucket string
	read   bool
}

// actionOf looks at a call's names and parameters.
func actionOf(ctx context.Context, params any) action {
	service, operation := awsmiddleware.GetServiceID(ctx), awsmiddleware.GetOperationName(ctx)
	prefix, ok := iamPrefixes[service]
	if !ok {
		prefix = strings.ToLower(strings.ReplaceAll(service, " ", ""))
	}
	a := action{name: prefix + ":" + operation}
	a.bucket = a.name
	for _, verb := range readVerbs {
		if strings.HasPrefix(operation, verb) {
			a.read = true
		}
	}
	input := reflect.Indirect(reflect.ValueOf(params))
	if input.Kind() != reflect.Struct {
		return a
	}
	if field := input.FieldByName("DryRun"); field.IsValid() {
		if dry, ok := field.Interface().(*bool); ok && dry != nil && *dry {
			a.read = true
		}
	}
	if prefix == "ec2" && strings.HasPrefix(operation, "Describe") && isUnfiltered(input) {
		a.bucket += unfiltered
	}
	return a
}

// isUnfiltered tells whether a Describe call names no page size, no filter and no resource, which EC2 counts apart. It
// says no for calls that have no pages.
func isUnfiltered(input reflect.Value) bool {
	if page := input.FieldByName("MaxResults"); !page.IsValid() || !page.IsZero() {
		return false
	}
	for i := range input.NumField() {
		if f := input.Field(i); f.Kind() == reflect.Slice && f.Len() > 0 {
			return false
		}
	}
	return true
}
