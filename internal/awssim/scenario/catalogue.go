package scenario

import (
	"fmt"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// account is an account to be made.
type account struct {
	id                    fleet.AccountID
	name, team, env, unit string
	criticality           string
	weight                float64 // of its share of the instances
	regions               int     // how many of the regions it uses
}

// teams own services; the first four are there in every organization.
var teams = [...]string{
	"payments", "storefront", "data", "logistics", "identity", "search", "pricing", "fraud", "crm", "mobile", "media", "iot",
}

// environments from the least critical on.
var environments = [...]struct {
	name, unit, criticality string
	weight                  float64
	regions                 int
}{
	{"sandbox", "Sandbox", "low", 0.5, 1},
	{"dev", "Development", "low", 1, 2},
	{"staging", "Staging", "medium", 1.6, 2},
	{"prod", "Production", "high", 6, 4},
}

// accountsFor lists n accounts: the management account, those that the others share, then the teams' environments.
func accountsFor(n int) []account {
	out := []account{
		{name: "northwind-management", team: "cloud", env: "management", criticality: "critical", weight: 0.1, regions: 1},
		{name: "security-audit", team: "security", env: "security", unit: "Security", criticality: "critical", weight: 0.6, regions: 2},
		{name: "shared-services", team: "platform", env: "shared", unit: "Shared", criticality: "high", weight: 2, regions: 2},
		{name: "network-hub", team: "platform", env: "shared", unit: "Shared", criticality: "critical", weight: 0.4, regions: 4},
	}
	// The first four teams in the order in which an enterprise would have them, the rest all alike.
	first := []string{
		"data-sandbox", "storefront-sandbox", "payments-dev", "storefront-dev", "data-dev", "payments-staging",
		"storefront-staging", "data-staging", "payments-prod", "storefront-prod", "data-prod", "logistics-prod",
	}
	seen := map[string]bool{}
	add := func(team string, env int) {
		e := environments[env]
		name := team + "-" + e.name
		if !seen[name] && len(out) < n {
			seen[name] = true
			out = append(out, account{
				name: name, team: team, env: e.name, unit: e.unit, criticality: e.criticality, weight: e.weight, regions: e.regions,
			})
		}
	}
	// With few accounts production must not fall off the end.
	order := []int{0, 2, 4, 5, 8, 9, 10, 11, 3, 6, 7, 1}
	for _, i := range order {
		for env, e := range environments {
			for _, team := range teams {
				if team+"-"+e.name == first[i] {
					add(team, env)
				}
			}
		}
	}
	for _, team := range teams {
		for env := range environments {
			add(team, env)
		}
	}
	for i := 2; len(out) < n; i++ {
		for _, team := range teams {
			for env := range environments {
				add(fmt.Sprintf("%s%d", team, i), env)
			}
		}
	}
	for i := range out {
		out[i].id = fleet.AccountID(fmt.Sprintf("%012d", 204_310_000_117+int64(i)*7_104_336_211%600_000_000_000))
	}
	return out
}

// shape is how a service launches its instances.
type shape int

const (
	bare     shape = iota // instances that somebody launched by hand
	plain                 // a template with one version that says nothing of metadata options
	explicit              // a template that says optional
	behind                // five versions, default 3 and latest 5; the latest requires tokens; groups on $Default
	latest                // several versions, the group on $Latest
	pinned                // several versions, the group on a number that is neither default nor latest
	shared                // one template for two groups, one on $Default and one on $Latest
	mixed                 // a MixedInstancesPolicy with an override that names another template
	config                // a launch configuration
	done                  // a template that requires tokens
)

// service is one application of a team.
type service struct {
	app    string
	weight float64
	shape  shape
	kind   string // instance type
	image  string // operating system
	hop    int    // hop limit of the current options, 1 when 0
	home   bool   // only in the first region
	stack  string // "cloudformation", "terraform", "eks", or "" for none
	// disabled endpoints, stopped and idle instances are shares of a bare service.
	disabled, stopped bool
	// operator is the AWS service that manages a bare service's instances, half of them hidden.
	operator string
	// quiet services had no boot for months.
	quiet bool
}

const surpriseApp = "report-archiver"

// servicesOf lists what runs in an account.
func servicesOf(a account, surprise bool) []*service {
	var out []*service
	switch a.team {
	case "cloud":
		return []*service{{app: "cost-exporter", weight: 1, shape: bare, kind: "t3.small", image: "al2023", home: true}}
	case "security":
		return []*service{
			{app: "vuln-scanner", weight: 3, shape: done, kind: "c6i.large", image: "al2023", stack: "terraform"},
			{app: "siem-forwarder", weight: 2, shape: done, kind: "m6i.large", image: "al2023", hop: 2, stack: "terraform"},
		}
	case "platform":
		if a.name == "network-hub" {
			return []*service{
				{app: "vpn-gateway", weight: 2, shape: bare, kind: "c5n.xlarge", image: "appliance", disabled: true},
				{app: "egress-proxy", weight: 3, shape: pinned, kind: "c6gn.large", image: "al2", stack: "terraform"},
			}
		}
		return []*service{
			{app: "platform-eks", weight: 4, shape: behind, kind: "m6i.2xlarge", image: "eks", stack: "eks"},
			{app: "jenkins-agent", weight: 4, shape: latest, kind: "c6i.2xlarge", image: "al2", stack: "cloudformation"},
			{app: "platform-eks-auto", weight: 0.6, shape: bare, kind: "c6g.xlarge", image: "eks", operator: "eks.amazonaws.com", home: true},
			{app: "vault", weight: 1, shape: done, kind: "m6g.large", image: "al2023", stack: "terraform"},
			{app: "bastion", weight: 1, shape: bare, kind: "t3.micro", image: "al2", stopped: true},
			{app: "nexus", weight: 1, shape: bare, kind: "m5.xlarge", image: "ubuntu", quiet: true, home: true},
		}
	case "payments":
		out = []*service{
			{app: "payments-api", weight: 8, shape: behind, kind: "m6i.large", image: "al2023", stack: "cloudformation"},
			{app: "payments-ledger", weight: 4, shape: explicit, kind: "r6i.xlarge", image: "al2023", stack: "cloudformation"},
			{app: "billing-batch", weight: 3, shape: plain, kind: "m5.xlarge", image: "al2", stack: "cloudformation"},
			{app: "fx-rates", weight: 1, shape: pinned, kind: "t3.medium", image: "al2023", stack: "terraform"},
			{app: "card-vault", weight: 4, shape: done, kind: "c6i.large", image: "al2023", stack: "terraform"},
		}
	case "storefront":
		out = []*service{
			{app: "storefront-web", weight: 10, shape: latest, kind: "c6g.xlarge", image: "al2023", stack: "cloudformation"},
			{app: "storefront-cart", weight: 4, shape: plain, kind: "m5.large", image: "al2", stack: "cloudformation"},
			{app: "image-resizer", weight: 4, shape: plain, kind: "c6i.large", image: "ecs", stack: "terraform"},
			{app: "search-indexer", weight: 3, shape: mixed, kind: "r6g.large", image: "al2", stack: "terraform"},
			{app: "checkout-edge", weight: 4, shape: done, kind: "c6i.large", image: "al2023", stack: "terraform"},
			{app: "session-cache", weight: 2, shape: bare, kind: "r6g.large", image: "ubuntu", quiet: true},
		}
	case "data":
		out = []*service{
			{app: "spark-worker", weight: 5, shape: shared, kind: "r5.2xlarge", image: "al2-2019", stack: "terraform"},
			{app: "kafka-broker", weight: 3, shape: bare, kind: "i3en.xlarge", image: "al2023"},
			{app: "airflow-worker", weight: 4, shape: explicit, kind: "m5.xlarge", image: "ubuntu", stack: "cloudformation"},
			{app: "adhoc-training", weight: 2, shape: bare, kind: "g5.xlarge", image: "ubuntu", stopped: true, home: true},
			{app: "feature-store", weight: 3, shape: explicit, kind: "r6i.large", image: "al2023", stack: "terraform"},
		}
	case "logistics":
		out = []*service{
			{app: "route-planner", weight: 6, shape: plain, kind: "c6i.xlarge", image: "al2", stack: "cloudformation"},
			{app: "warehouse-sync", weight: 3, shape: config, kind: "m4.large", image: "al2-2019"},
			{app: "label-printer", weight: 1, shape: bare, kind: "t3.medium", image: "windows", quiet: true},
			{app: "tracking-api", weight: 5, shape: behind, kind: "m6g.large", image: "al2023", stack: "terraform"},
		}
	default:
		out = []*service{
			{app: a.team + "-api", weight: 6, shape: behind, kind: "m6i.large", image: "al2023", stack: "cloudformation"},
			{app: a.team + "-worker", weight: 4, shape: plain, kind: "c6g.large", image: "al2", stack: "terraform"},
			{app: a.team + "-legacy", weight: 1, shape: config, kind: "m4.large", image: "al2-2019"},
		}
	}
	if a.env == "sandbox" {
		out = append(out[:2:2], &service{app: "notebook", weight: 4, shape: bare, kind: "t3.large", image: "ubuntu", stopped: true, home: true})
	}
	if surprise {
		out = append(out, &service{
			app: surpriseApp, weight: 2, shape: plain, kind: "m5.large", image: "al2", stack: "cloudformation", home: true,
		})
	}
	return out
}

// images are the operating systems in use.
var images = [...]struct {
	key, name, owner, alias string
	v2                      bool
	age                     int // months
}{
	{"al2023", "al2023-ami-2023.6.20260105.0-kernel-6.1-x86_64", "137112412989", "amazon", true, 2},
	{"al2", "northwind-golden-al2-2025-09", "", "", false, 6},
	{"al2-2019", "northwind-golden-al2-2019-11", "", "", false, 76},
	{"ubuntu", "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-20250508", "099720109477", "amazon", false, 10},
	{"eks", "amazon-eks-node-1.29-v20250610", "602401143452", "amazon", false, 9},
	{"ecs", "amzn2-ami-ecs-hvm-2.0.20250720-x86_64-ebs", "591542846629", "amazon", false, 8},
	{"windows", "Windows_Server-2019-English-Full-Base-2021.03.10", "801119661308", "amazon", false, 60},
	{"appliance", "vpn-appliance-9.1.3-byol", "679593333241", "aws-marketplace", false, 40},
}

type deployment struct {
	program workload.Program
	where   workload.Where
}

// catalogue lists what runs on the services. Most of it is modern and speaks v2; what does not is an old SDK, an old
// agent, or a container behind one hop.
func catalogue() []deployment {
	apps := func(names ...string) workload.Where {
		var w workload.Where
		for _, n := range names {
			w.Tags = append(w.Tags, "app="+n)
		}
		return w
	}
	modern := func(name, agent, version, ua string) workload.Program {
		return workload.Program{
			Name: name, Agent: agent, Version: version, UserAgent: ua, Speaks: workload.V2ThenV1, Every: time.Hour, AtBoot: true,
			CacheFor: 6 * time.Hour, Essential: true, ImpairedAfter: 10 * time.Minute,
		}
	}
	old := func(name, agent, version, ua string, every time.Duration) workload.Program {
		return workload.Program{
			Name: name, Agent: agent, Version: version, UserAgent: ua, Speaks: workload.V1Only, Every: every, AtBoot: true,
			CacheFor: 30 * time.Minute, Essential: true, ImpairedAfter: 5 * time.Minute,
		}
	}
	var everywhere workload.Where
	for _, env := range []string{"management", "security", "shared", "sandbox", "dev", "staging", "prod"} {
		everywhere.Tags = append(everywhere.Tags, "patch-group="+env) // appliances are not patched
	}
	out := []deployment{
		{workload.Program{
			Name: "ssm-agent", Agent: "amazon-ssm-agent", Version: "3.3.1611.0", UserAgent: "aws-sdk-go/1.55.5 amazon-ssm-agent/",
			Speaks: workload.V2ThenV1, Every: 30 * time.Minute, AtBoot: true, CacheFor: 6 * time.Hour,
		}, everywhere},
		{modern("payments-api", "aws-sdk-java-v2", "2.31.20", "aws-sdk-java/2.31.20"), apps("payments-api", "tracking-api")},
		{modern("payments-ledger", "aws-sdk-go-v2", "1.36.3", "aws-sdk-go-v2/1.36.3"), apps("payments-ledger", "fx-rates", "vuln-scanner")},
		{old("billing-batch", "boto3", "1.9.2", "Boto3/1.9.2 Python/3.6.15 Linux/4.14.355 Botocore/1.12.253", 15*time.Minute),
			apps("billing-batch")},
		{modern("card-vault", "aws-sdk-rust", "1.5.17", "aws-sdk-rust/1.5.17"), apps("card-vault", "vault", "siem-forwarder")},
		{modern("storefront-web", "aws-sdk-js", "3.758.0", "aws-sdk-js/3.758.0"), apps("storefront-web", "search-indexer", "checkout-edge")},
		{old("cart-service", "aws-sdk-java", "1.11.500", "aws-sdk-java/1.11.500 Linux/4.14.355 OpenJDK_64-Bit_Server_VM",
			10*time.Minute), apps("storefront-cart")},
		{workload.Program{
			Name: "resizer", Agent: "aws-sdk-js", Version: "3.758.0", UserAgent: "aws-sdk-js/3.758.0", Speaks: workload.V2ThenV1,
			ExtraHops: 1, Every: 20 * time.Minute, AtBoot: true, CacheFor: 6 * time.Hour, Essential: true,
			ImpairedAfter: 10 * time.Minute,
		}, apps("image-resizer")},
		{workload.Program{
			Name: "kube2iam", Agent: "kube2iam", Version: "0.10.9", UserAgent: "aws-sdk-go/1.13.38", Speaks: workload.V1Only,
			Every: 10 * time.Minute, AtBoot: true, Calls: 4, Essential: true, ImpairedAfter: 5 * time.Minute,
		}, apps("platform-eks")},
		{workload.Program{
			Name: "ci-containers", Agent: "aws-cli", Version: "2.24.5", UserAgent: "aws-cli/2.24.5", Speaks: workload.V2ThenV1,
			ExtraHops: 1, Every: 40 * time.Minute, CacheFor: time.Hour,
		}, apps("jenkins-agent")},
		{workload.Program{
			Name: "ssm-agent-old", Agent: "amazon-ssm-agent", Version: "2.3.1319.0", UserAgent: "aws-sdk-go/1.25.41 amazon-ssm-agent/",
			Speaks: workload.V1First, Every: 15 * time.Minute, AtBoot: true, CacheFor: 6 * time.Hour,
		}, apps("spark-worker", "warehouse-sync")},
		{modern("spark", "aws-sdk-java-v2", "2.29.52", "aws-sdk-java/2.29.52"), apps("spark-worker")},
		{modern("kafka-tiered-storage", "aws-sdk-java-v2", "2.30.11", "aws-sdk-java/2.30.11"), apps("kafka-broker", "feature-store")},
		{workload.Program{
			Name: "datadog-agent", Agent: "datadog-agent", Version: "7.40.1", UserAgent: "datadog-agent/7.40.1",
			Speaks: workload.V1First, Every: 5 * time.Minute, AtBoot: true, Calls: 1,
		}, apps("airflow-worker", "session-cache")},
		{modern("airflow", "boto3", "1.37.1", "Boto3/1.37.1 md/Botocore#1.37.1"), apps(
			"airflow-worker", surpriseApp, "notebook", "cost-exporter", "adhoc-training")},
		{modern("route-planner", "aws-sdk-cpp", "1.11.510", "aws-sdk-cpp/1.11.510"), apps("route-planner", "egress-proxy")},
		{old("warehouse-sync", "aws-sdk-php", "3.100.0", "aws-sdk-php/3.100.0", time.Hour), apps("warehouse-sync")},
		{workload.Program{
			Name: "vpn-appliance", Agent: "vpn-appliance", Version: "9.1.3", UserAgent: "appliance/9.1.3", Speaks: workload.V1Only,
			AtBoot: true, Essential: true, ImpairedAfter: 5 * time.Minute,
		}, apps("vpn-gateway")},
		{old("label-printer", "aws-tools-powershell", "3.3.618", "AWSPowerShell/3.3.618.0", 7*24*time.Hour), apps("label-printer")},
	}
	for _, team := range teams[4:] {
		out = append(out,
			deployment{modern(team+"-api", "aws-sdk-java-v2", "2.31.20", "aws-sdk-java/2.31.20"), apps(team+"-api", team+"-worker")},
			deployment{old(team+"-legacy", "aws-sdk-ruby", "2.10.9", "aws-sdk-ruby2/2.10.9", 30*time.Minute), apps(team + "-legacy")})
	}
	return out
}
