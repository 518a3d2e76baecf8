package product

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// The versions that AWS documents are the first that speak, and the ones before them do not.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/use-a-supported-sdk-version-for-imdsv2.html
func TestFirstVersions(t *testing.T) {
	for _, tt := range []struct {
		id      ID
		version string
		want    Judgement
		first   string
	}{
		{"aws-cli", "1.16.288", Old, "1.16.289"}, {"aws-cli", "1.16.289", Speaks, "1.16.289"}, {"aws-cli", "2.0.0", Speaks, "2.0.0"},
		{"aws-cli", "2.0.0dev2", Unclear, ""}, {"aws-cli", "2.15.30", Speaks, "2.0.0"},
		{"aws-tools-powershell", "3.3.618.0", Old, "4.0.1.0"}, {"aws-tools-powershell", "4.0.1.0", Speaks, "4.0.1.0"},
		{"aws-tools-powershell", "4.0.0.0", Old, "4.0.1.0"}, {"aws-tools-powershell", "4.0.1", Speaks, "4.0.1.0"},
		{"aws-sdk-dotnet", "3.3.103.65", Old, "3.3.103.66"}, {"aws-sdk-dotnet", "3.3.103.66", Speaks, "3.3.103.66"},
		{"aws-sdk-dotnet", "3.7.108.2", Speaks, "3.3.103.66"}, {"aws-sdk-dotnet", "3.5.0-beta", Speaks, "3.3.103.66"},
		{"aws-sdk-cpp", "1.7.228", Old, "1.7.229"}, {"aws-sdk-cpp", "1.7.229", Speaks, "1.7.229"},
		{"aws-sdk-go-v1", "v1.25.37", Old, "1.25.38"}, {"aws-sdk-go-v1", "v1.25.38", Speaks, "1.25.38"},
		{"aws-sdk-go-v1", "v1.25.38-0.20191119225612-0123456789ab", Old, "1.25.38"},
		{"aws-sdk-go-v1", "v1.25.38+incompatible", Speaks, "1.25.38"},
		{"aws-sdk-go-v1", "v0.0.0-20191119225612-0123456789ab", Unclear, "1.25.38"}, {"aws-sdk-go-v1", "(devel)", Unclear, "1.25.38"},
		{"aws-sdk-go-v2", "v0.18.0", Old, "0.19.0"}, {"aws-sdk-go-v2", "v0.19.0", Speaks, "0.19.0"},
		{"aws-sdk-go-v2", "v2.0.0-preview.4+incompatible", Old, "0.19.0"},
		{"aws-sdk-java-v1", "1.11.677", Old, "1.11.678"}, {"aws-sdk-java-v1", "1.11.678", Speaks, "1.11.678"},
		{"aws-sdk-java-v1", "1.11.1000", Speaks, "1.11.678"}, {"aws-sdk-java-v1", "1.11.678-SNAPSHOT", Old, "1.11.678"},
		{"aws-sdk-java-v2", "2.10.20", Old, "2.10.21"}, {"aws-sdk-java-v2", "2.10.21", Speaks, "2.10.21"},
		{"aws-sdk-java-v2", "2.0.0-preview-13", Old, "2.10.21"},
		{"aws-sdk-js-v2", "2.721.0", Old, "2.722.0"}, {"aws-sdk-js-v2", "2.722.0", Speaks, "2.722.0"},
		{"aws-sdk-js-v3", "1.0.0-gamma.4", Unclear, ""}, {"aws-sdk-js-v3", "3.0.0", Speaks, "1.0.0"},
		{"aws-sdk-kotlin", "1.1.3", Old, "1.1.4"}, {"aws-sdk-kotlin", "1.1.4", Speaks, "1.1.4"},
		{"aws-sdk-php", "3.147.6", Old, "3.147.7"}, {"aws-sdk-php", "3.147.7", Speaks, "3.147.7"}, {"aws-sdk-php", "2.8.31", Old, "3.147.7"},
		{"botocore", "1.13.24", Old, "1.13.25"}, {"botocore", "1.13.25", Speaks, "1.13.25"}, {"botocore", "1.13.25rc1", Old, "1.13.25"},
		{"botocore", "1.12.103+repack-1", Old, "1.13.25"}, {"botocore", "1.16.19+repack-1ubuntu0.20.04.1", Speaks, "1.13.25"},
		{"boto3", "1.12.5", Old, "1.12.6"}, {"boto3", "1.12.6", Speaks, "1.12.6"}, {"boto", "2.49.0", NoFix, ""},
		{"aws-sdk-ruby", "3.78.0", Old, "3.79.0"}, {"aws-sdk-ruby", "3.79.0", Speaks, "3.79.0"},
		{"aws-sdk-ruby", "2.11.400", Old, "2.11.401"}, {"aws-sdk-ruby", "2.11.401", Speaks, "2.11.401"},
		{"aws-sdk-ruby", "3.0.0.rc1", Old, "3.79.0"},
		{"aws-sdk-ruby-gem", "3.1.0", Unclear, ""}, {"aws-sdk-ruby-gem", "1.67.0", Old, "2.11.401"},
		{"amazon-ssm-agent", "2.3.786.0", Old, "3.0.431.0"}, {"amazon-ssm-agent", "2.3.814.0", Able, "3.0.431.0"},
		{"amazon-ssm-agent", "3.0.413.0", Able, "3.0.431.0"}, {"amazon-ssm-agent", "3.0.431.0", Speaks, "3.0.431.0"},
		{"amazon-ssm-agent", "3.3.987.0-1.amzn2", Speaks, "3.0.431.0"}, {"amazon-ssm-agent", "", Unclear, "3.0.431.0"},
		{"datadog-agent", "1:7.63.3-1", Able, "7.64.0"}, {"datadog-agent", "1:7.64.0-1", Speaks, "7.64.0"}, {"datadog-agent", "6.53.0", Unclear, ""},
		{"newrelic-infrastructure", "1.11.41", Old, "1.11.42"}, {"newrelic-php", "9.20.0.310", Speaks, "9.20.0.310"},
		{"newrelic-php", "9.19.0.309", Old, "9.20.0.310"}, {"newrelic-go", "v3.9.0", Old, "3.10.0"},
		{"kube2iam", "0.10.9", Old, "0.12.0"}, {"kube2iam", "0.11.2", Able, "0.12.0"}, {"kube2iam", "0.13.0", Speaks, "0.12.0"},
		{"kiam", "v3.5", Old, "3.6-rc1"}, {"kiam", "v3.6-rc1", Speaks, "3.6-rc1"}, {"kiam", "v4.2", Speaks, "3.6-rc1"},
		{"salt", "3005.1+ds-1", Old, "3006"}, {"salt", "3006.0rc2", Old, "3006"}, {"salt", "3006.0", Speaks, "3006"},
		{"cloud-init", "19.3-2.amzn2", Old, "19.4"}, {"cloud-init", "20.1-10-g71af48df-0ubuntu5~18.04.1", Speaks, "19.4"},
		{"cloud-init", "19.4-33-gbb4131a2-0ubuntu1~16.04.1", Speaks, "19.4"}, {"cloud-init", "19.4~rc1-1", Old, "19.4"},
		{"facter", "4.0.46", Old, "4.2.1"}, {"facter", "4.2.0", Able, "4.2.1"}, {"facter", "4.2.1", Speaks, "4.2.1"},
		{"fluent-bit", "1.8.7", Old, "1.8.8"}, {"s3cmd", "2.3.0-1", Speaks, "2.3.0"}, {"ec2-net-utils", "1.2-2.1", Old, "1.3"},
		{"amazon-kinesis-agent", "1.1.6-1", Old, "2.0.6"}, {"amazon-kinesis-agent", "2.0.1", Unclear, ""},
		{"aws-sdk-rust", "", Speaks, ""}, {"prometheus", "2.30.0", Unclear, ""}, {"nobody", "1.0", Unclear, ""},
	} {
		got := Default().Judge(tt.id, tt.version)
		if got.Judgement != tt.want || got.First != tt.first {
			t.Errorf("%s %q is %s (first %q), want %s (first %q)", tt.id, tt.version, got.Judgement, got.First, tt.want, tt.first)
		}
		if wrong := got.Judgement != Speaks && got.Judgement != Unclear; wrong && (got.Fix == "" || got.Source == "") {
			t.Errorf("%s %q says no fix or no source: %+v", tt.id, tt.version, got)
		}
	}
}

func TestCompareOrders(t *testing.T) {
	for _, ordered := range [][]string{
		{"1.2.0-alpha.1", "1.2.0-alpha.2", "1.2.0-alpha.10", "1.2.0-beta", "1.2.0-rc.1", "1.2.0", "1.2.1"},
		{"3.9", "3.10", "3.10.0.1", "3.11"},
		{"1.0.dev1", "1.0a1", "1.0b2", "1.0rc1", "1.0"}, // Python; its order of dev among the others is not that of strings
		{"1.0~beta1", "1.0-1", "1.1-1"},
		{"1.0.0-0.20191119120000-0123456789ab", "1.0.0"},
		{"4.0.1.0", "4.0.1.1"},
		{"1.11.99", "1.11.100"},
	} {
		for i, a := range ordered {
			for j, b := range ordered {
				if strings.Contains(a, "dev") && strings.ContainsAny(b, "abr") || strings.Contains(b, "dev") && strings.ContainsAny(a, "abr") {
					continue
				}
				if got := Compare(a, b); got != compareInts(i, j) {
					t.Errorf("Compare(%q, %q) = %d", a, b, got)
				}
			}
		}
	}
	for _, same := range [][2]string{
		{"v1.2.3", "1.2.3"}, {"1.2", "1.2.0.0"}, {"1:1.2-3ubuntu1", "1.2"}, {"1.2.3+build.5", "1.2.3"}, {"01.2", "1.2"},
		{"2.0-1.amzn2.0.2", "2.0"}, {"1.2.3.post1", "1.2.3"}, {"nothing", ""},
	} {
		if Compare(same[0], same[1]) != 0 {
			t.Errorf("%q and %q differ", same[0], same[1])
		}
	}
	if Compare("unknown", "0") != -1 || Compare("0", "x:1") != 1 {
		t.Error("what is no version is not the least")
	}
}

func compareInts(a, b int) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func FuzzCompare(f *testing.F) {
	for _, s := range []string{"1.2.3", "v0.0.0-20191119120000-0123456789ab", "1:7.64.0-1", "1.0~rc1", "3.6-rc1", "9999999999999999999999.1", ""} {
		f.Add(s, "1.2.3", "1.2.3-rc1")
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if Compare(a, a) != 0 || Compare(a, b) != -Compare(b, a) {
			t.Errorf("%q and %q: %d, %d, %d", a, b, Compare(a, a), Compare(a, b), Compare(b, a))
		}
		if Compare(a, b) <= 0 && Compare(b, c) <= 0 && Compare(a, c) > 0 {
			t.Errorf("%q ≤ %q ≤ %q, and yet the first is more than the last", a, b, c)
		}
		Default().Judge("aws-cli", a)
	})
}

func TestByPackage(t *testing.T) {
	for _, tt := range []struct {
		ecosystem, name string
		want            ID
	}{
		{"pypi", "boto3", "boto3"}, {"pypi", "Boto3", "boto3"}, {"pypi", "EC2_Metadata", "ec2-metadata-python"},
		{"npm", "aws-sdk", "aws-sdk-js-v2"}, {"npm", "@aws-sdk/credential-provider-imds", "aws-sdk-js-v3"}, {"npm", "AWS-SDK", ""},
		{"maven", "com.amazonaws:aws-java-sdk-core", "aws-sdk-java-v1"}, {"maven", "com.amazonaws/aws-java-sdk-core", "aws-sdk-java-v1"},
		{"maven", "software.amazon.awssdk:auth", "aws-sdk-java-v2"},
		{"golang", "github.com/aws/aws-sdk-go", "aws-sdk-go-v1"}, {"golang", "github.com/aws/aws-sdk-go-v2", "aws-sdk-go-v2"},
		{"golang", "github.com/DataDog/datadog-agent", "datadog-agent"}, {"gem", "aws-sdk-core", "aws-sdk-ruby"},
		{"composer", "aws/aws-sdk-php", "aws-sdk-php"}, {"nuget", "awssdk.core", "aws-sdk-dotnet"}, {"nuget", "AWSSDK.Core", "aws-sdk-dotnet"},
		{"deb", "python3-botocore", "botocore"}, {"rpm", "amazon-ssm-agent", "amazon-ssm-agent"}, {"cargo", "aws-config", "aws-sdk-rust"},
		{"pypi", "requests", ""}, {"", "", ""},
	} {
		got, ok := Default().ByPackage(tt.ecosystem, tt.name)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s/%s is %q, %t, want %q", tt.ecosystem, tt.name, got, ok, tt.want)
		}
	}
}

func TestAppliance(t *testing.T) {
	old, recent := time.Date(2019, 6, 1, 0, 0, 0, 0, time.UTC), time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		owner, name string
		codes       []string
		created     time.Time
		want        ID
		judgement   Judgement
	}{
		{"aws-marketplace", "PA-VM-AWS-9.1.3-f1260463-68e1-4bfb-bf2e-075c2664c1d7", nil, recent, "palo-alto-vm-series", Old},
		{"679593333241", "PA-VM-AWS-10.2.3-f1260463-68e1-4bfb-bf2e-075c2664c1d7", nil, recent, "palo-alto-vm-series", Speaks},
		{"111122223333", "golden-firewall", []string{"6njl1pau431dv1qxipg63mvah"}, recent, "palo-alto-vm-series", Unclear},
		{"aws-marketplace", "FortiGate-VM64-AWS build1157 (7.0.5) GA-1a2b", []string{"other"}, recent, "fortinet-fortigate", Unclear},
		{"aws-marketplace", "F5 BIGIP-16.1.2.1-0.0.10 PAYG-Best 25Mbps-220222234728", nil, recent, "f5-big-ip", Unclear},
		{"111122223333", "F5 BIGIP-16.1.2.1-0.0.10", nil, recent, "", ""}, // somebody's own, by a name alone
		{"111122223333", "junos-vsrx3-x86-64-21.4R1", nil, recent, "juniper-vsrx", NoFix},
		{"aws-marketplace", "acme-scanner-4", nil, recent, "marketplace-image", Unclear},
		{"aws-marketplace", "acme-scanner-1", nil, old, "old-image", Old},
		{"amazon", "amzn-ami-hvm-2018.03.0.20190514-x86_64-gp2", nil, old, "amazon-linux-1", Old},
		{"137112412989", "amzn-ami-hvm-2018.03.0.20231024.0-x86_64-gp2", nil, recent, "amazon-linux-1", Unclear},
		{"amazon", "amzn2-ami-hvm-2.0.20191217.0-x86_64-gp2", nil, time.Time{}, "amazon-linux-2", Old},
		{"amazon", "amzn2-ami-hvm-2.0.20200207.1-x86_64-gp2", nil, recent, "amazon-linux-2", Speaks},
		{"amazon", "amzn2-ami-kernel-5.10-hvm-2.0.20240131.0-arm64-gp2", nil, recent, "amazon-linux-2", Speaks},
		{"amazon", "amzn2-ami-minimal-hvm-2.0.20190508-x86_64-ebs", nil, time.Time{}, "amazon-linux-2", Old},
		{"amazon", "amzn2-ami-ecs-hvm-2.0.20190614-x86_64-ebs", nil, old, "ecs-optimized-image", Old},
		{"amazon", "al2023-ami-2023.3.20240131.0-kernel-6.1-x86_64", nil, recent, "amazon-linux-2023", Speaks},
		{"amazon", "bottlerocket-aws-k8s-1.28-x86_64-v1.19.0-7e8ca4e3", nil, recent, "bottlerocket", Unclear},
		{"111122223333", "billing-2018-04-01", nil, old, "old-image", Old},
		{"111122223333", "billing-2018-04-01", nil, time.Time{}, "", ""}, // nobody knows how old it is
		{"111122223333", "billing-2024-04-01", nil, recent, "", ""},
		{"", "", nil, time.Time{}, "", ""},
	} {
		v, id, ok := Default().Appliance(tt.owner, tt.name, tt.codes, tt.created)
		if id != tt.want || v.Judgement != tt.judgement || ok != (tt.want != "") {
			t.Errorf("%s %q %v of %s is %q, %s, want %q, %s", tt.owner, tt.name, tt.codes, tt.created.Format(time.DateOnly), id, v.Judgement,
				tt.want, tt.judgement)
		}
	}
}

// What the table says rests on something, and what it cannot rest on says so.
func TestTableIsSound(t *testing.T) {
	for _, p := range Default().All() {
		if len(p.Lines) > 0 && !strings.HasPrefix(p.Source, "https://") {
			t.Errorf("%s has versions and no source", p.ID)
		}
		if speaksAlways := len(p.Lines) == 1 && p.Lines[0].First == "0"; p.Fix == "" && !speaksAlways {
			t.Errorf("%s has no fix", p.ID)
		}
		if p.Fix != "" && !strings.HasSuffix(p.Fix, ".") {
			t.Errorf("the fix of %s is no sentence: %q", p.ID, p.Fix)
		}
		if len(p.Packages)+len(p.Agents) == 0 && p.Image == nil && p.ID != "sas-viya" {
			t.Errorf("nothing tells %s", p.ID)
		}
		for _, l := range p.Lines {
			if l.First != "" && l.First != "0" {
				if got := Default().Judge(p.ID, l.First).Judgement; got != Speaks {
					t.Errorf("%s %s, its first version, is %s", p.ID, l.First, got)
				}
			}
		}
	}
}

func TestWith(t *testing.T) {
	const own = `products:
  - id: acme-agent
    name: Acme agent
    class: agent
    packages: [rpm/acme-agent, maven/com.acme:agent]
    agents: [AcmeAgent, {token: acme*, from: "2", below: "4"}]
    through: [botocore]
    lines: [{first: 4.2.0}]
    image: {product_codes: [abc], names: ["acme-{version}"], old_before: 2021-02-03}
    fix: Upgrade it.
    source: https://acme.example/
  - {id: curl, name: our curl, class: tool, agents: [curl]}
`
	table, err := Default().With([]byte(own), "own.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := table.ByPackage("maven", "com.acme:agent"); id != "acme-agent" || table.Judge(id, "4.1").Judgement != Old {
		t.Errorf("%s, %+v", id, table.Judge(id, "4.1"))
	}
	if p, _ := table.Find("curl"); p.Name != "our curl" || p.Raw {
		t.Errorf("the entry of the same id was not replaced: %+v", p)
	}
	if p, _ := Default().Find("curl"); p.Name == "our curl" {
		t.Error("the default table was changed")
	}
	if _, ok := Default().Find("acme-agent"); ok {
		t.Error("the default table was changed")
	}
	if v, id, ok := table.Appliance("x", "acme-1.0", nil, time.Time{}); !ok || id != "acme-agent" || v.Judgement != Old {
		t.Errorf("%s, %+v", id, v)
	}
	if _, id, _ := table.Appliance("x", "y", []string{"abc"}, time.Time{}); id != "acme-agent" {
		t.Errorf("by product code: %q", id)
	}
	if got := table.ParseAgent("acmeworks/3.1"); len(got) != 1 || got[0].Product != "acme-agent" || got[0].Version != "3.1" {
		t.Errorf("%+v", got)
	}
	if got := table.ParseAgent("acmeworks/4.1 acmeworks/1"); got != nil {
		t.Errorf("out of bounds: %+v", got)
	}
	if same, err := Default().With([]byte(" \n"), "empty.yaml"); err != nil || len(same.All()) != len(Default().All()) {
		t.Errorf("an empty file: %v", err)
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	entry := func(more string) string {
		return "products:\n  - id: a\n    name: A\n    class: tool\n" + more
	}
	for _, tt := range []struct{ yaml, want string }{
		{"products:\n  - id: [\n", "own.yaml:"},
		{"product: []\n", "own.yaml:1: there is no field \"product\" here"},
		{"- id: a\n", "own.yaml:1: a list stands where"},
		{"products: 3\n", "own.yaml:1: a number stands where"},
		{"\xff\xfe\x00", "own.yaml:1: "},
		{entry("    colour: red\n"), "own.yaml:5: there is no field \"colour\" here"},
		{entry("    lines: [{first: [1]}]\n"), "own.yaml:5: a list stands where"},
		{"products:\n  - name: A\n    class: tool\n", "own.yaml:2: id"},
		{"products:\n  - {id: A b, name: A, class: tool}\n", "own.yaml:2: id"},
		{"products:\n  - {id: a, class: tool}\n", "own.yaml:2: product \"a\" has no name"},
		{"products:\n  - {id: a, name: A, class: thing}\n", "own.yaml:2: product \"a\" has the class \"thing\"; the classes are sdk, cli"},
		{entry("    packages: [boto3]\n"), "own.yaml:2: package \"boto3\""},
		{entry("    packages: [pip/boto3]\n"), "own.yaml:2: package \"pip/boto3\""},
		{entry("    packages: [pypi/boto3]\n"), "own.yaml:2: package pypi/boto3 of \"a\" is one of \"boto3\" already"},
		{entry("    agents: [a b]\n"), "own.yaml:2: user agent token"},
		{entry("    agents: [\"*\"]\n"), "own.yaml:2: user agent token"},
		{entry("    agents: [{token: a, below: next}]\n"), "own.yaml:2: \"next\""},
		{entry("    lines: [{first: new}]\n"), "own.yaml:2: \"new\""},
		{entry("    lines: [{from: \"2\"}, {from: \"1\"}]\n"), "own.yaml:2: the lines of a are not in order"},
		{entry("    lines: [{first: \"2\"}, {first: \"3\"}]\n"), "own.yaml:2: the lines of a are not in order"},
		{entry("    lines: [{first: \"2\", unclear: true}]\n"), "own.yaml:2: a line of a is unclear and has a first version"},
		{entry("    lines: [{able: \"3\", first: \"2\"}]\n"), "own.yaml:2: a line of a is able from 3"},
		{entry("    image: {}\n"), "own.yaml:2: the images of a are told by nothing"},
		{entry("    image: {names: [x], old_before: soon}\n"), "own.yaml:2: old_before"},
		{entry("    image: {names: [x], only_older: true}\n"), "own.yaml:2: only older"},
		{entry("    through: [nobody]\n"), "own.yaml:2: \"a\" calls through \"nobody\""},
		{entry("") + "  - {id: a, name: B, class: tool}\n", "own.yaml:5: the id \"a\" is there twice"},
	} {
		if _, err := Default().With([]byte(tt.yaml), "own.yaml"); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.yaml, err, tt.want)
		}
	}
}

func FuzzWith(f *testing.F) {
	f.Add([]byte("products:\n  - {id: a, name: A, class: tool, lines: [{first: 1.0}], image: {names: [\"a*{version}\"]}}\n"))
	f.Add([]byte("products: [~, 1]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := Default().With(data, "own.yaml")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "own.yaml") {
				t.Errorf("the error does not name the file: %v", err)
			}
			return
		}
		for _, p := range table.All() {
			table.Judge(p.ID, "1.2.3")
		}
		table.Appliance("amazon", "a-1.2", []string{"x"}, time.Unix(0, 0))
	})
}

// More lines, in any order of asking, never make an old version speak: a version between two first ones of its line is judged by
// its own line only.
func TestJudgeIsMonotone(t *testing.T) {
	p := Product{ID: "p", Lines: []Line{{First: "1.5", Able: "1.2"}, {From: "2", First: "2.7"}, {From: "3", First: "3.1"}}}
	rank := []Judgement{NoFix, Old, Able, Speaks}
	r := rand.New(rand.NewPCG(1, 2))
	version := func(major int) (string, string) {
		a, b := r.IntN(10), r.IntN(10)
		return join(major, min(a, b)), join(major, max(a, b))
	}
	for range 500 {
		lower, higher := version(1 + r.IntN(3))
		a, b := judge(&p, lower), judge(&p, higher)
		if slices.Index(rank, a.Judgement) > slices.Index(rank, b.Judgement) {
			t.Fatalf("%s is %s and %s is %s", lower, a.Judgement, higher, b.Judgement)
		}
	}
}

func join(major, minor int) string { return string(rune('0'+major)) + "." + string(rune('0'+minor)) }
