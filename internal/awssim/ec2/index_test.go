package ec2_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
)

// TestNamedInstancesAreThoseOfTheWholeWalk: ids and reserved tags are looked up, patterns are compared with every instance. Both
// ways find the same, page by page, while instances come, go and are forgotten.
func TestNamedInstancesAreThoseOfTheWholeWalk(t *testing.T) {
	w := calm(t)
	const group, template = "aws:autoscaling:groupName", "aws:ec2launchtemplate:id"
	seeds := make([]ec2.InstanceSeed, 40)
	for i := range seeds {
		seeds[i].Tags = map[string]string{
			group: []string{"web", "api", "batch"}[i%3], template: []string{"lt-1", "lt-2"}[i%2], "Name": []string{"a", "b"}[i/20],
		}
	}
	ids := w.add(t, seeds...)
	filter := func(name string, values ...string) types.Filter { return types.Filter{Name: &name, Values: values} }
	list := func(filters []types.Filter) (out []string) {
		t.Helper()
		p := api.NewDescribeInstancesPaginator(w.Client, &api.DescribeInstancesInput{MaxResults: aws.Int32(5), Filters: filters})
		for p.HasMorePages() {
			for _, r := range must[*api.DescribeInstancesOutput](t)(p.NextPage(t.Context())).Reservations {
				for _, i := range r.Instances {
					out = append(out, *i.InstanceId)
				}
			}
		}
		return out
	}
	compare := func(when string) {
		t.Helper()
		for name, filters := range map[string][]types.Filter{
			"a group":                {filter("tag:"+group, "web")},
			"two groups":             {filter("tag:"+group, "web", "batch", "web")},
			"a group and a template": {filter("tag:"+group, "api"), filter("tag:"+template, "lt-2")},
			"a group and a name":     {filter("tag:Name", "a"), filter("tag:"+group, "api")},
			"a group that is none":   {filter("tag:"+group, "none")},
			"ids":                    {filter("instance-id", ids[30], ids[4], ids[4], ids[5], ids[6], ids[7], ids[8], ids[9], ids[35])},
			"ids of a group":         {filter("tag:"+group, "web"), filter("instance-id", ids[3], ids[4], ids[30])},
		} {
			walked := make([]types.Filter, len(filters))
			for i, f := range filters {
				walked[i] = types.Filter{Name: f.Name}
				for _, v := range f.Values {
					walked[i].Values = append(walked[i].Values, `\`+v) // a pattern for the same, which no index answers
				}
			}
			got, want := list(filters), list(walked)
			if !slices.Equal(got, want) || len(want) == 0 && name != "a group that is none" {
				t.Errorf("%s, %s: %v, by the whole walk %v", when, name, got, want)
			}
		}
	}
	compare("seeded")
	must[*api.TerminateInstancesOutput](t)(w.TerminateInstances(t.Context(), &api.TerminateInstancesInput{InstanceIds: ids[5:12]}))
	compare("ended")
	w.clock.Advance(2 * time.Hour)
	compare("forgotten")
	w.add(t, ec2.InstanceSeed{Tags: map[string]string{group: "web", template: "lt-1"}})
	compare("launched")
}
