// Package launches holds the resolver of launches (internal/assess) against the simulator, whose own is written apart from it:
// every row of the truth table is launched there by real API calls, and so are random launches.
package launches

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

const (
	imagePlain = "ami-00000000000000001"
	imageV2    = "ami-00000000000000002"
)

// row is a row of internal/assess/testdata; see effective_test.go there.
type row struct {
	Doc, Says       string
	Launch, Account fleet.Options
	Template        *fleet.Options
	Enforced, Image string
	Want            map[string]string
	Refused         bool
}

func rows(t *testing.T, file string) []row {
	t.Helper()
	b, err := os.ReadFile("../../internal/assess/testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var out []row
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(out) < 20 {
		t.Fatalf("%s has %d cases", file, len(out))
	}
	return out
}

// TestTruthTableInTheSimulator launches each row of the table, and compares what came of it with what the table says.
func TestTruthTableInTheSimulator(t *testing.T) {
	for _, file := range []string{"documented.json", "effective.json"} {
		c := newCloud(t)
		for i, r := range rows(t, file) {
			got, refused, err := c.launch(t.Context(), r)
			if err != nil {
				t.Fatalf("%s, case %d (%s %s): %v", file, i+1, r.Says, r.Doc, err)
			}
			if refused != r.Refused {
				t.Errorf("%s, case %d (%s %s): refused %v, want %v", file, i+1, r.Says, r.Doc, refused, r.Refused)
			}
			for field, want := range r.Want {
				if !refused && got[field] != want {
					t.Errorf("%s, case %d (%s %s): %s is %q, want %q", file, i+1, r.Says, r.Doc, field, got[field], want)
				}
			}
		}
	}
}

// TestRandomLaunches: the resolver and the simulator agree on every field of any launch.
func TestRandomLaunches(t *testing.T) {
	c := newCloud(t)
	rapid.Check(t, func(t *rapid.T) {
		r := row{Launch: options(t, "launch", true), Account: options(t, "account", false),
			Image:    rapid.SampledFrom([]string{"", "v2.0"}).Draw(t, "image"),
			Enforced: rapid.SampledFrom([]string{"", fleet.Enabled, fleet.Disabled}).Draw(t, "enforced")}
		in := assess.LaunchInput{Parameters: assess.Level{Says: r.Launch}, Default: assess.Level{Says: r.Account}, Enforced: r.Enforced,
			Image: assess.Image{V2: r.Image != ""}}
		if rapid.Bool().Draw(t, "by template") {
			o := options(t, "template", true)
			r.Template, in.Source.Says = &o, o
		}
		got, refused, err := c.launch(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		want := assess.Effective(in)
		if refused != (want.Refused != "") {
			t.Fatalf("refused %v, the resolver says %q", refused, want.Refused)
		}
		for field, s := range map[string]assess.Setting{"tokens": want.Tokens, "endpoint": want.Endpoint, "hop_limit": want.HopLimit,
			"ipv6": want.IPv6, "instance_tags": want.Tags} {
			if !refused && got[field] != s.Value {
				t.Fatalf("%s is %q, the resolver says %q by %s", field, got[field], s.Value, s.By())
			}
		}
	})
}

func options(t *rapid.T, who string, ipv6 bool) fleet.Options {
	word := func(what string, values ...string) string {
		return rapid.SampledFrom(append(values, "")).Draw(t, who+" "+what)
	}
	o := fleet.Options{Tokens: word("tokens", "optional", "required"), Endpoint: word("endpoint", "enabled", "disabled"),
		Tags: word("tags", "enabled", "disabled"), HopLimit: rapid.SampledFrom([]int{0, 1, 2, 64}).Draw(t, who+" hops")}
	if ipv6 {
		o.IPv6 = word("ipv6", "enabled", "disabled")
	}
	return o
}

// cloud is a client of a simulated AWS in which writes show at once and nothing is throttled.
type cloud struct {
	*ec2.Client
	templates int
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	w := awssim.New(awssim.Options{Clock: clock.NewManual(time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)), Unthrottled: true, Consistency: -1,
		Settle: -1, CallLogLimit: 1})
	account := core.AccountSeed{ID: "111111111111", Regions: map[fleet.Region]map[string]json.RawMessage{"eu-west-1": {
		"ec2": json.RawMessage(fmt.Sprintf(`{"images": [{"id": %q}, {"id": %q, "imds_v2": true}]}`, imagePlain, imageV2))}}}
	if err := w.LoadSeed(&core.Seed{Organization: core.Organization{ManagementAccount: account.ID}, Accounts: []core.AccountSeed{account}}); err != nil {
		t.Fatal(err)
	}
	creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "111111111111", SecretAccessKey: "secret"}, nil
	})
	return &cloud{Client: ec2.NewFromConfig(aws.Config{Region: "eu-west-1", Credentials: creds, HTTPClient: w.Client(),
		BaseEndpoint: aws.String(awssim.BaseURL), Retryer: func() aws.Retryer { return aws.NopRetryer{} }})}
}

// launch sets the account's defaults, makes the template where there is one, and launches one instance.
func (c *cloud) launch(ctx context.Context, r row) (got map[string]string, refused bool, err error) {
	if err := c.setDefaults(ctx, r); err != nil {
		return nil, false, err
	}
	image := imagePlain
	if r.Image == "v2.0" {
		image = imageV2
	}
	in := &ec2.RunInstancesInput{MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ImageId: aws.String(image)}
	if r.Launch != (fleet.Options{}) {
		in.MetadataOptions = &types.InstanceMetadataOptionsRequest{HttpTokens: types.HttpTokensState(r.Launch.Tokens),
			HttpEndpoint:            types.InstanceMetadataEndpointState(r.Launch.Endpoint),
			HttpProtocolIpv6:        types.InstanceMetadataProtocolState(r.Launch.IPv6),
			InstanceMetadataTags:    types.InstanceMetadataTagsState(r.Launch.Tags),
			HttpPutResponseHopLimit: number(r.Launch.HopLimit)}
	}
	if r.Template != nil {
		id, err := c.makeTemplate(ctx, image, *r.Template)
		if err != nil {
			return nil, false, err
		}
		in.ImageId, in.LaunchTemplate = nil, &types.LaunchTemplateSpecification{LaunchTemplateId: aws.String(id)}
	}
	out, err := c.RunInstances(ctx, in)
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "UnsupportedOperation" {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("launch: %w", err)
	}
	o := out.Instances[0].MetadataOptions
	return map[string]string{"tokens": string(o.HttpTokens), "endpoint": string(o.HttpEndpoint), "ipv6": string(o.HttpProtocolIpv6),
		"instance_tags": string(o.InstanceMetadataTags), "hop_limit": strconv.Itoa(int(aws.ToInt32(o.HttpPutResponseHopLimit)))}, false, nil
}

// setDefaults writes all defaults of the account; what it does not say is "no-preference".
func (c *cloud) setDefaults(ctx context.Context, r row) error {
	or := func(v string) string {
		if v == "" {
			return fleet.NoPreference
		}
		return v
	}
	hops := r.Account.HopLimit
	if hops == 0 {
		hops = -1
	}
	_, err := c.ModifyInstanceMetadataDefaults(ctx, &ec2.ModifyInstanceMetadataDefaultsInput{
		HttpTokens:              types.MetadataDefaultHttpTokensState(or(r.Account.Tokens)),
		HttpEndpoint:            types.DefaultInstanceMetadataEndpointState(or(r.Account.Endpoint)),
		InstanceMetadataTags:    types.DefaultInstanceMetadataTagsState(or(r.Account.Tags)),
		HttpTokensEnforced:      types.DefaultHttpTokensEnforcedState(or(r.Enforced)),
		HttpPutResponseHopLimit: aws.Int32(int32(hops)),
	})
	if err != nil {
		return fmt.Errorf("set the defaults: %w", err)
	}
	return nil
}

// makeTemplate makes a launch template whose default version says o, between two versions that say otherwise.
func (c *cloud) makeTemplate(ctx context.Context, image string, o fleet.Options) (string, error) {
	data := &types.RequestLaunchTemplateData{ImageId: aws.String(image)}
	if o != (fleet.Options{}) {
		data.MetadataOptions = &types.LaunchTemplateInstanceMetadataOptionsRequest{
			HttpTokens:              types.LaunchTemplateHttpTokensState(o.Tokens),
			HttpEndpoint:            types.LaunchTemplateInstanceMetadataEndpointState(o.Endpoint),
			HttpProtocolIpv6:        types.LaunchTemplateInstanceMetadataProtocolIpv6(o.IPv6),
			InstanceMetadataTags:    types.LaunchTemplateInstanceMetadataTagsState(o.Tags),
			HttpPutResponseHopLimit: number(o.HopLimit)}
	}
	other := &types.RequestLaunchTemplateData{ImageId: aws.String(imagePlain),
		MetadataOptions: &types.LaunchTemplateInstanceMetadataOptionsRequest{HttpTokens: types.LaunchTemplateHttpTokensStateRequired,
			HttpPutResponseHopLimit: aws.Int32(9)}}
	c.templates++
	made, err := c.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String(fmt.Sprint("template-", c.templates)), LaunchTemplateData: other})
	if err != nil {
		return "", fmt.Errorf("make a template: %w", err)
	}
	id := made.LaunchTemplate.LaunchTemplateId
	for _, d := range []*types.RequestLaunchTemplateData{data, other} {
		if _, err := c.CreateLaunchTemplateVersion(ctx, &ec2.CreateLaunchTemplateVersionInput{LaunchTemplateId: id, LaunchTemplateData: d}); err != nil {
			return "", fmt.Errorf("make a version: %w", err)
		}
	}
	_, err = c.ModifyLaunchTemplate(ctx, &ec2.ModifyLaunchTemplateInput{LaunchTemplateId: id, DefaultVersion: aws.String("2")})
	if err != nil {
		return "", fmt.Errorf("set the default version: %w", err)
	}
	return aws.ToString(id), nil
}

func number(n int) *int32 {
	if n == 0 {
		return nil
	}
	return aws.Int32(int32(n))
}
