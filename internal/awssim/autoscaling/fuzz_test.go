package autoscaling_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// FuzzSeed feeds the seed's section with any JSON: it must load or explain, never panic.
func FuzzSeed(f *testing.F) {
	f.Add(`{"launch_configurations": [{"name": "a", "image_id": "ami-1", "instance_type": "m4.large"}],
		"groups": [{"name": "g", "launch_configuration": "a", "desired": 1}]}`)
	f.Add(`{"groups": [{"name": "g", "template": "t", "overrides": [{"instance_type": "x", "template": "lt-"}], "desired": -1}]}`)
	f.Fuzz(func(t *testing.T, section string) {
		if strings.Contains(section, `"desired"`) && len(section) > 400 {
			t.Skip("keeps groups small")
		}
		w := core.New(core.Options{}, ec2.Service(), autoscaling.Service())
		err := w.LoadSeed(&core.Seed{Accounts: []core.AccountSeed{{
			ID: account, Regions: map[fleet.Region]map[string]json.RawMessage{"eu-west-1": {"autoscaling": json.RawMessage(section)}},
		}}})
		if err != nil && !strings.Contains(err.Error(), "autoscaling") {
			t.Errorf("the error does not say where: %v", err)
		}
	})
}

// FuzzRequest sends any form to every action: the answer is a success or a refusal in AWS's words, never a failure.
func FuzzRequest(f *testing.F) {
	f.Add("CreateAutoScalingGroup", "AutoScalingGroupName=a&MinSize=0&MaxSize=1&LaunchTemplate.LaunchTemplateId=lt-1&AvailabilityZones.member.1=a")
	f.Add("CreateAutoScalingGroup", "MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.Version=1&MinSize=x")
	f.Add("DescribeScalingActivities", "Filters.member.1.Name=StartTimeLowerBound&Filters.member.1.Values.member.1=x&NextToken=eA")
	f.Add("StartInstanceRefresh", "AutoScalingGroupName=g&Preferences.InstanceWarmup=1&DesiredConfiguration.LaunchTemplate.Version=1")
	f.Add("DescribeAutoScalingGroups", "MaxRecords=1&NextToken=RGVzY3JpYmVBdXRvU2NhbGluZ0dyb3VwcyBh")
	f.Fuzz(func(t *testing.T, action, form string) {
		w := core.New(core.Options{}, ec2.Service(), autoscaling.Service())
		if err := w.Load([]byte(`{"accounts": [{"id": "` + account + `", "regions": {"eu-west-1": {"autoscaling": {
			"launch_configurations": [{"name": "a", "image_id": "ami-1", "instance_type": "m4.large"}],
			"groups": [{"name": "g", "launch_configuration": "a"}]}}}}]}`)); err != nil {
			t.Fatal(err)
		}
		body := "Action=" + url.QueryEscape(action) + "&Version=2011-01-01&" + form
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, core.BaseURL+"/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+account+"/20260302/eu-west-1/autoscaling/aws4_request, "+
			"SignedHeaders=host, Signature=0")
		resp, err := w.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode >= 500 {
			t.Errorf("%s: status %d", body, resp.StatusCode)
		}
	})
}
