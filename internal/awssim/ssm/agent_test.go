package ssm_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ssm"
)

// enterWithAgents is a world in which all instances of the seed have agents, and a machine outside of EC2 as well.
func enterWithAgents(t *testing.T) world {
	t.Helper()
	w := enter(t, core.Options{})
	for _, id := range []string{first, second, stopped, agent} {
		ssm.SetAgentVersion(w.place, id, "2.3.1319.0")
	}
	ssm.SetAgentVersion(w.place, "mi-0123456789abcdef0", "3.1.1732.0")
	ssm.SetAgentVersion(w.place, second, "3.3.987.0")
	return w
}

func (w world) agents(t *testing.T, in *sdk.DescribeInstanceInformationInput) []string {
	t.Helper()
	var out []string
	pages := sdk.NewDescribeInstanceInformationPaginator(w.ssm, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range page.InstanceInformationList {
			out = append(out, *i.InstanceId+" "+*i.AgentVersion)
		}
	}
	return out
}

// What is stopped, and what has no agent, is not listed; what is outside of EC2 is.
func TestAgentsThatReport(t *testing.T) {
	w := enterWithAgents(t)
	all := []string{first + " 2.3.1319.0", second + " 3.3.987.0", "mi-0123456789abcdef0 3.1.1732.0"}
	if got := w.agents(t, &sdk.DescribeInstanceInformationInput{}); !slices.Equal(got, all) {
		t.Errorf("%q, want %q", got, all)
	}
	for _, tt := range []struct {
		key, value string
		want       []string
	}{
		{"InstanceIds", second, all[1:2]}, {"AgentVersion", "2.3.1319.0", all[:1]}, {"PingStatus", "ConnectionLost", nil},
		{"PlatformTypes", "Linux", all}, {"ResourceType", "ManagedInstance", all[2:]}, {"InstanceIds", "i-0123456789abcdeff", nil},
	} {
		got := w.agents(t, &sdk.DescribeInstanceInformationInput{Filters: []ssmtypes.InstanceInformationStringFilter{
			{Key: aws.String(tt.key), Values: []string{tt.value}},
		}})
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s %s: %q, want %q", tt.key, tt.value, got, tt.want)
		}
		if tt.key == "InstanceIds" {
			legacy := w.agents(t, &sdk.DescribeInstanceInformationInput{InstanceInformationFilterList: []ssmtypes.InstanceInformationFilter{
				{Key: ssmtypes.InstanceInformationFilterKeyInstanceIds, ValueSet: []string{tt.value}},
			}})
			if !slices.Equal(legacy, tt.want) {
				t.Errorf("the older filter gives %q", legacy)
			}
		}
	}
	w.stop(first)
	if got := w.agents(t, &sdk.DescribeInstanceInformationInput{}); !slices.Equal(got, all[1:]) {
		t.Errorf("after a stop: %q", got)
	}
}

func TestAgentPages(t *testing.T) {
	w := enterWithAgents(t)
	var want []string
	for n := range 23 {
		id := "mi-" + strings.Repeat("0", 15) + string(rune('a'+n/10)) + string(rune('0'+n%10))
		ssm.SetAgentVersion(w.place, id, "3.3.987.0")
		want = append(want, id+" 3.3.987.0")
	}
	for _, size := range []int32{5, 7, 25, 50} {
		got := w.agents(t, &sdk.DescribeInstanceInformationInput{MaxResults: aws.Int32(size)})
		if len(got) != 26 || !slices.Equal(got[3:], want) {
			t.Errorf("in pages of %d: %q", size, got)
		}
	}
	out, err := w.ssm.DescribeInstanceInformation(t.Context(), &sdk.DescribeInstanceInformationInput{})
	if err != nil || len(out.InstanceInformationList) != 10 {
		t.Errorf("a page without a size has %d, %v, want 10", len(out.InstanceInformationList), err)
	}
}

func TestAgentRefusals(t *testing.T) {
	w := enterWithAgents(t)
	filter := func(key string, values ...string) []ssmtypes.InstanceInformationStringFilter {
		return []ssmtypes.InstanceInformationStringFilter{{Key: aws.String(key), Values: values}}
	}
	for _, tt := range []struct {
		code string
		in   *sdk.DescribeInstanceInformationInput
	}{
		{"ValidationException", &sdk.DescribeInstanceInformationInput{MaxResults: aws.Int32(4)}},
		{"ValidationException", &sdk.DescribeInstanceInformationInput{MaxResults: aws.Int32(51)}},
		{"InvalidNextToken", &sdk.DescribeInstanceInformationInput{NextToken: aws.String("x")}},
		{"InvalidFilterKey", &sdk.DescribeInstanceInformationInput{Filters: filter("Colour", "red")}},
		{"InvalidInstanceInformationFilterValue", &sdk.DescribeInstanceInformationInput{Filters: filter("InstanceIds", "first")}},
		{"InvalidInstanceInformationFilterValue", &sdk.DescribeInstanceInformationInput{Filters: filter("PingStatus", []string{}...)}},
		{"ValidationException", &sdk.DescribeInstanceInformationInput{
			Filters: filter("PingStatus", "Online"), InstanceInformationFilterList: []ssmtypes.InstanceInformationFilter{
				{Key: ssmtypes.InstanceInformationFilterKeyPingStatus, ValueSet: []string{"Online"}},
			},
		}},
	} {
		_, err := w.ssm.DescribeInstanceInformation(t.Context(), tt.in)
		if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != tt.code {
			t.Errorf("%v, want %s", err, tt.code)
		}
	}
}

func TestSeedOfAgentsIsChecked(t *testing.T) {
	for _, tt := range []struct{ agents, want string }{
		{`[{"instance": "first", "version": "3.0.0"}]`, "agents[0]: \"first\" is no instance id"},
		{`[{"instance": "i-0123456789abcdef0", "version": "3"}]`, "is no agent's version"},
		{`[{"instance": "i-0123456789abcdef0", "version": "3.0.0", "ping": "Inactive"}]`, "ping is Online"},
		{`[{"instance": "i-0123456789abcdef0", "version": "3.0.0", "platform_type": "BSD"}]`, "platform_type is"},
		{`[{"instance": "i-0123456789abcdef0", "version": "3.0.0"}, {"instance": "i-0123456789abcdef0", "version": "3.0.0"}]`, "agents[1]"},
	} {
		w := awssim.New(core.Options{})
		err := w.Load([]byte(`{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"ssm": {"agents": ` + tt.agents + `}}}}]}`))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.agents, err, tt.want)
		}
	}
}
