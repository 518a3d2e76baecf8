package emr_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/emr"
	"github.com/aws/aws-sdk-go-v2/service/emr/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const account = "111122223333"

func enter(t *testing.T) (*sdk.Client, *clock.Manual) {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	w := awssim.New(core.Options{Clock: c, Consistency: time.Second, Unthrottled: true})
	var configurations []string
	for n := range 51 {
		configurations = append(configurations, fmt.Sprintf(`{"name": "c-%02d"}`, n))
	}
	seed := `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"elasticmapreduce": {
		"security_configurations": [` + strings.Join(configurations, ",") + `],
		"clusters": [
			{"id": "j-0000000000001", "name": "old", "created": "2026-01-01T00:00:00Z", "security_configuration": "c-01"},
			{"id": "j-0000000000002", "name": "new", "created": "2026-02-01T00:00:00Z", "state": "RUNNING", "tags": {"team": "data"}},
			{"id": "j-0000000000003", "name": "ended", "state": "TERMINATED"}]}}}}]}`
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	return sdk.New(sdk.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", ""),
	}), c
}

func names(t *testing.T, client *sdk.Client) []string {
	t.Helper()
	var out []string
	in := &sdk.ListSecurityConfigurationsInput{}
	for {
		page, err := client.ListSecurityConfigurations(t.Context(), in)
		if err != nil || len(page.SecurityConfigurations) > 50 {
			t.Fatalf("%v, %d on a page", err, len(page.SecurityConfigurations))
		}
		for _, c := range page.SecurityConfigurations {
			out = append(out, *c.Name)
		}
		if in.Marker = page.Marker; in.Marker == nil {
			return out
		}
	}
}

func TestConfigurationsAreMadeAndDeletedButNeverChanged(t *testing.T) {
	client, c := enter(t)
	if got := names(t, client); len(got) != 51 || got[0] != "c-00" || got[50] != "c-50" {
		t.Errorf("listed %q", got)
	}
	const document = `{"InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": 2}}`
	in := &sdk.CreateSecurityConfigurationInput{Name: aws.String("v2"), SecurityConfiguration: aws.String(document)}
	if _, err := client.CreateSecurityConfiguration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(names(t, client), "v2") {
		t.Error("a new configuration is seen at once")
	}
	c.Advance(time.Second)
	got, err := client.DescribeSecurityConfiguration(t.Context(), &sdk.DescribeSecurityConfigurationInput{Name: in.Name})
	if err != nil || *got.SecurityConfiguration != document {
		t.Errorf("described %v, %v", got, err)
	}
	_, err = client.CreateSecurityConfiguration(t.Context(), in)
	refused(t, "a second of the name", err, "already exists")
	if _, err := client.DeleteSecurityConfiguration(t.Context(), &sdk.DeleteSecurityConfigurationInput{Name: in.Name}); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Second)
	_, err = client.DescribeSecurityConfiguration(t.Context(), &sdk.DescribeSecurityConfigurationInput{Name: in.Name})
	refused(t, "one that was deleted", err, "does not exist")
	for _, wrong := range []string{
		"{", `{"InstanceMetadataServiceConfiguration": 2}`,
		`{"InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": 3}}`,
		`{"InstanceMetadataServiceConfiguration": {"HttpPutResponseHopLimit": 65}}`,
		`{"InstanceMetadataServiceConfiguration": {"HttpPutResponseHopLimit": 1.5}}`,
	} {
		_, err := client.CreateSecurityConfiguration(t.Context(), &sdk.CreateSecurityConfigurationInput{
			Name: aws.String("wrong"), SecurityConfiguration: aws.String(wrong),
		})
		refused(t, wrong, err, "")
	}
}

func TestClusters(t *testing.T) {
	client, _ := enter(t)
	out, err := client.ListClusters(t.Context(), &sdk.ListClustersInput{
		ClusterStates: []types.ClusterState{types.ClusterStateRunning, types.ClusterStateWaiting},
	})
	if err != nil || len(out.Clusters) != 2 || *out.Clusters[0].Name != "new" || *out.Clusters[1].Name != "old" {
		t.Errorf("listed %v, %+v", err, out)
	}
	one, err := client.DescribeCluster(t.Context(), &sdk.DescribeClusterInput{ClusterId: aws.String("j-0000000000001")})
	if err != nil || aws.ToString(one.Cluster.SecurityConfiguration) != "c-01" {
		t.Errorf("described %v, %+v", err, one)
	}
	_, err = client.DescribeCluster(t.Context(), &sdk.DescribeClusterInput{ClusterId: aws.String("j-9999999999999")})
	refused(t, "an unknown cluster", err, "is not valid")
	_, err = client.ListClusters(t.Context(), &sdk.ListClustersInput{Marker: aws.String("nonsense")})
	refused(t, "a bad marker", err, "Marker")
}

func refused(t *testing.T, what string, err error, text string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "InvalidRequestException" || !strings.Contains(api.ErrorMessage(), text) {
		t.Errorf("%s gave %v", what, err)
	}
}
