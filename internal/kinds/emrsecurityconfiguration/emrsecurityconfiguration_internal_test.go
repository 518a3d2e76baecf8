package emrsecurityconfiguration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func TestParse(t *testing.T) {
	for document, want := range map[string]setting{
		`{}`: {},
		`{"InstanceMetadataServiceConfiguration":{}}`:                                                                      {},
		`{"InstanceMetadataServiceConfiguration":null}`:                                                                    {},
		`{"InstanceMetadataServiceConfiguration":{"MinimumInstanceMetadataServiceVersion":2,"HttpPutResponseHopLimit":1}}`: {"2", "1"},
		`{"InstanceMetadataServiceConfiguration":{"MinimumInstanceMetadataServiceVersion":"1"}}`:                           {"1", ""},
		`{"AuthenticationConfiguration":{"KerberosConfiguration":{"Provider":"ClusterDedicatedKdc"}}}`:                     {},
	} {
		if got, err := parse(document); err != nil || got != want {
			t.Errorf("%s gave %+v, %v", document, got, err)
		}
	}
	for _, document := range []string{
		``, `[]`, `{`, `{"InstanceMetadataServiceConfiguration":2}`,
		`{"InstanceMetadataServiceConfiguration":{"MinimumInstanceMetadataServiceVersion":"two"}}`,
		`{"InstanceMetadataServiceConfiguration":{"HttpPutResponseHopLimit":0}}`,
		`{"InstanceMetadataServiceConfiguration":{"HttpPutResponseHopLimit":1.5}}`,
	} {
		if got, err := parse(document); err == nil {
			t.Errorf("%s gave %+v", document, got)
		}
	}
}

// FuzzParse: what is understood is numbers above 0 or nothing, and reads the same when it is written again. A value is never
// repeated in an error.
func FuzzParse(f *testing.F) {
	f.Add(`{"InstanceMetadataServiceConfiguration":{"MinimumInstanceMetadataServiceVersion":2,"HttpPutResponseHopLimit":1}}`)
	f.Add(`{"EncryptionConfiguration":{"EnableInTransitEncryption":false}}`)
	f.Add(`{"InstanceMetadataServiceConfiguration":{"HttpPutResponseHopLimit":"s3cret"}}`)
	f.Fuzz(func(t *testing.T, document string) {
		got, err := parse(document)
		if err != nil {
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s gave %v", document, err)
			}
			return
		}
		var fields []string
		for name, value := range got.state() {
			fields = append(fields, fmt.Sprintf("%q:%s", name, value))
		}
		again, err := parse(`{"InstanceMetadataServiceConfiguration":{` + strings.Join(fields, ",") + `}}`)
		if err != nil || again != got {
			t.Errorf("%s gave %+v, and that %+v, %v", document, got, again, err)
		}
		if o := got.options(); o.HopLimit < 0 || o.Tokens == "" {
			t.Errorf("%s gave %+v", document, o)
		}
	})
}

func TestOptions(t *testing.T) {
	for s, want := range map[setting]fleet.Options{
		{}:         {Tokens: fleet.TokensOptional},
		{"1", ""}:  {Tokens: fleet.TokensOptional},
		{"2", "3"}: {Tokens: fleet.TokensRequired, HopLimit: 3},
	} {
		if got := s.options(); got != want {
			t.Errorf("%+v gives %+v", s, got)
		}
	}
}

func TestPropose(t *testing.T) {
	resource := func(id string, s fleet.State, says *fleet.Options, clusters string) *inventory.Resource {
		r := &inventory.Resource{
			Ref: fleet.Ref{Place: place, Kind: inventory.KindEMR, ID: id}, Name: strings.TrimPrefix(id, configurationPrefix),
			State: s, Says: says, Attrs: map[string]string{},
		}
		if clusters != "" {
			r.Attrs[AttrClusters] = clusters
		}
		return r
	}
	open := &fleet.Options{Tokens: fleet.TokensOptional, HopLimit: 2}
	for name, tt := range map[string]struct {
		resource *inventory.Resource
		status   assess.Status
		hops     int
		want     []string // in the commands and texts; none for no step
	}{
		"done":   {resource("a", nil, open, ""), assess.Done, 0, nil},
		"exempt": {resource("a", nil, open, ""), assess.Exempt, 0, nil},
		"keeps its hops": {resource("it's mine", nil, open, "nightly j-1"), assess.Ready, 0, []string{
			`--name 'it'\''s mine-imdsv2' --security-configuration "$(aws emr describe-security-configuration --region eu-west-1 ` +
				`--name 'it'\''s mine' --query SecurityConfiguration --output text | jq -c `,
			`'.InstanceMetadataServiceConfiguration+={"MinimumInstanceMetadataServiceVersion":2,"HttpPutResponseHopLimit":2}')"`,
			`aws emr delete-security-configuration --region eu-west-1 --name 'it'\''s mine'`, "nightly j-1",
		}},
		"a rule": {resource("a", nil, open, ""), assess.Ready, 3, []string{`"HttpPutResponseHopLimit":3`, "none runs now"}},
		"unknown": {resource("a", nil, open, ""), assess.Unknown, 0, []string{
			"First make sure that nothing on the cluster calls IMDSv1", "create-security-configuration",
		}},
		"a cluster": {resource("cluster/j-0000000000001", fleet.State{}, open, ""), assess.Ready, 1, []string{
			`--security-configuration '{"InstanceMetadataServiceConfiguration":{"MinimumInstanceMetadataServiceVersion":2,` +
				`"HttpPutResponseHopLimit":1}}'`,
			"# aws emr create-cluster", "aws emr terminate-clusters --region eu-west-1 --cluster-ids j-0000000000001",
		}},
		"a cluster whose configuration is gone": {
			resource("cluster/j-0000000000001", fleet.State{FieldConfiguration: "lost"}, nil, ""), assess.Unknown, 0,
			[]string{"lost was deleted", `"HttpPutResponseHopLimit":1`},
		},
	} {
		v := &assess.Verdict{Status: tt.status, Want: fleet.Options{HopLimit: tt.hops}}
		needs, manuals := propose(kind.Case{Resource: tt.resource, Verdict: v})
		if len(needs) != 0 || len(manuals) != min(1, len(tt.want)) {
			t.Errorf("%s: got %+v and %+v", name, needs, manuals)
			continue
		}
		for _, part := range tt.want {
			if all := manuals[0].Reason + manuals[0].Remedy + strings.Join(manuals[0].Commands, "\n"); !strings.Contains(all, part) {
				t.Errorf("%s: got\n%s\nwithout %s", name, all, part)
			}
		}
	}
}

func TestIDsTellClustersFromConfigurations(t *testing.T) {
	for name, want := range map[string]string{
		"secure": "secure", "cluster/j-1": "configuration/cluster/j-1", "configuration/x": "configuration/configuration/x",
	} {
		got := configurationID(name)
		if got != want || strings.HasPrefix(got, clusterPrefix) || strings.TrimPrefix(got, configurationPrefix) != name {
			t.Errorf("%s became %s", name, got)
		}
	}
}
