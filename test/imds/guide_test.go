package imds

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Where the answers of the table are documented, or were seen.
const (
	guide      = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/"
	retrieval  = guide + "instancedata-data-retrieval.html"
	v2         = guide + "configuring-instance-metadata-service.html"
	categories = guide + "ec2-instance-metadata.html#instancedata-data-categories"
	identityAt = guide + "retrieve-iid.html"
	roleAt     = guide + "instance-metadata-security-credentials.html"
	tagsAt     = guide + "work-with-tags-in-IMDS.html"
	spotAt     = guide + "spot-instance-termination-notices.html"
	rebalance  = guide + "rebalance-recommendations.html"
	lifecycle  = "https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html"
	slashAt    = "https://github.com/aws-beam/aws_credentials/issues/47"                   // seen in 2023
	expectAt   = "https://github.com/s3fs-fuse/s3fs-fuse/issues/1765"                      // seen in 2021
	page404At  = "https://github.com/aws/amazon-ec2-metadata-mock/issues/81"               // seen in 2020
	page401At  = "https://github.com/guardicore/monkey/issues/4275"                        // seen in 2024: 343 bytes
	page403At  = "https://github.com/aws/amazon-cloudwatch-agent/pull/1139"                // seen in 2024
	headersAt  = "https://github.com/99designs/aws-vault/pull/1208"                        // seen in 2023
	optionsAt  = "https://github.com/kubernetes-sigs/cluster-api-provider-aws/issues/1609" // seen in 2020, of the token's path
	methodAt   = v2                                                                        // 405 and its Allow were seen in 2020
	botocoreAt = "https://github.com/boto/botocore/blob/develop/botocore/utils.py"         // InstanceMetadataRegionFetcher
	doubleAt   = "https://github.com/ex-aws/ex_aws/pull/496"                               // seen in 2017
)

// instance is the one of the user guide's examples.
const instance = `
instance_tags: enabled
instance_id: i-1234567890abcdef0
image_id: ami-0abcdef1234567890
instance_type: t2.micro
account: "123456789012"
region: us-east-1
availability_zone: us-east-1f
availability_zone_id: use1-az4
reservation_id: r-0efghijk987654321
launched: 2019-10-31T07:02:24Z
role: s3access
local_ipv4: 10.251.50.12
public_ipv4: 203.0.113.25
public_hostname: ec2-203-0-113-25.compute-1.amazonaws.com
mac: 02:29:96:8f:6a:2d
subnet_id: subnet-be9b61d7
security_groups: [web, ssh]
key_name: my-public-key
public_key: ssh-rsa MIICiTCCAfICCQD6m7oRw0uXOjANBgkqhkiG9w0BAQUFADCBiDELMAkGA1UEBhMC my-public-key
tags: {Name: MyInstance, Environment: Dev, "aws:cloudformation:stack-name": web, Empty: ""}
monitoring: enabled
ipv6_address: 2001:db8:1234:1a00::5
user_data: "1234,john,reboot,true | 4512,richard, | 173,,,"
`

// request is a row of the table: what curl is given, and what must come back.
type request struct {
	source string
	path   string
	args   []string // "TOKEN" in them is a token
	status string   // its beginning
	body   string   // whole, where it does not begin with ~: a pattern then; empty is anything
	header string   // "name: value" that must be there, or "-name" that must not
}

const (
	ttlHeader = "X-aws-ec2-metadata-token-ttl-seconds: "
	tokenHead = "X-aws-ec2-metadata-token: TOKEN"
)

func put(args ...string) []string { return append([]string{"-X", "PUT"}, args...) }

// documented are requests of version 1 and 2 on an instance that allows both. Those without a method are asked as both.
var documented = []request{
	{retrieval, "/", nil, "200", `~(?s)^1\.0\n2007-01-19\n2007-03-01\n.*\n2021-01-03\n2021-03-23\n.*latest$`, ""},
	{retrieval, "/latest/meta-data/", nil, "200", "~(?s)^ami-id\nami-launch-index\nami-manifest-path\nblock-device-mapping/\nevents/\nhostname\niam/\n" +
		".*instance-action\ninstance-id\ninstance-life-cycle\ninstance-type\nipv6\nlocal-hostname\nlocal-ipv4\nmac\nmetrics/\nnetwork/\nplacement/\nprofile\n" +
		"public-hostname\npublic-ipv4\npublic-keys/\nreservation-id\nsecurity-groups\nservices/", "content-type: text/plain"},
	{retrieval, "/latest/meta-data/ami-id", nil, "200", "ami-0abcdef1234567890", ""},
	{retrieval, "/latest/meta-data/reservation-id", nil, "200", "r-0efghijk987654321", ""},
	{retrieval, "/latest/meta-data/local-hostname", nil, "200", "ip-10-251-50-12.ec2.internal", ""},
	{retrieval, "/latest/meta-data/public-hostname", nil, "200", "ec2-203-0-113-25.compute-1.amazonaws.com", ""},
	{retrieval, "/latest/meta-data/public-keys/", nil, "200", "0=my-public-key", ""},
	{retrieval, "/latest/meta-data/public-keys/0/", nil, "200", "openssh-key", ""},
	{retrieval, "/latest/meta-data/public-keys/0/openssh-key", nil, "200", "~^ssh-rsa MIICi.* my-public-key$", ""},
	{retrieval, "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d/subnet-id", nil, "200", "subnet-be9b61d7", ""},
	{tagsAt, "/latest/meta-data/tags/instance", nil, "200", "Empty\nEnvironment\nName\naws:cloudformation:stack-name", ""},
	{tagsAt, "/latest/meta-data/tags/instance/Name", nil, "200", "MyInstance", ""},
	{tagsAt, "/latest/meta-data/tags/instance/", nil, "200", "Empty\nEnvironment\nName\naws:cloudformation:stack-name", ""},
	{tagsAt, "/latest/meta-data/tags/instance/name", nil, "404", "", ""},
	{tagsAt, "/latest/meta-data/tags/instance/aws:cloudformation:stack-name", nil, "200", "web", ""},
	{tagsAt, "/latest/meta-data/tags/instance/Empty", nil, "200", "", "content-length: 0"},
	{retrieval, "/latest/meta-data/none", nil, "404", "", ""},
	{botocoreAt, "/latest/meta-data/placement/availability-zone/", nil, "200", "us-east-1f", ""},
	{categories, "/latest/meta-data/ami-launch-index", nil, "200", "0", ""},
	{categories, "/latest/meta-data/hostname", nil, "200", "ip-10-251-50-12.ec2.internal", ""},
	{categories, "/latest/meta-data/instance-action", nil, "200", "none", ""},
	{categories, "/latest/meta-data/instance-id", nil, "200", "i-1234567890abcdef0", ""},
	{categories, "/latest/meta-data/instance-type", nil, "200", "t2.micro", ""},
	{categories, "/latest/meta-data/local-ipv4", nil, "200", "10.251.50.12", ""},
	{categories, "/latest/meta-data/mac", nil, "200", "02:29:96:8f:6a:2d", ""},
	{categories, "/latest/meta-data/network/interfaces/macs/", nil, "200", "02:29:96:8f:6a:2d/", ""},
	{categories, "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d/device-number", nil, "200", "0", ""},
	{categories, "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d/ipv4-associations/203.0.113.25", nil, "200", "10.251.50.12", ""},
	{categories, "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d/owner-id", nil, "200", "123456789012", ""},
	{categories, "/latest/meta-data/placement/availability-zone", nil, "200", "us-east-1f", ""},
	{categories, "/latest/meta-data/placement/availability-zone-id", nil, "200", "use1-az4", ""},
	{categories, "/latest/meta-data/placement/region", nil, "200", "us-east-1", ""},
	{categories, "/latest/meta-data/public-ipv4", nil, "200", "203.0.113.25", ""},
	{categories, "/latest/meta-data/security-groups", nil, "200", "web\nssh", ""},
	{categories, "/latest/meta-data/services/domain", nil, "200", "amazonaws.com", ""},
	{categories, "/latest/meta-data/services/partition", nil, "200", "aws", ""},
	{categories, "/latest/meta-data/events/maintenance/scheduled", nil, "200", "[]", ""},
	{categories, "/latest/meta-data/block-device-mapping/", nil, "200", "ami\nroot", ""},
	{categories, "/latest/dynamic/fws/instance-monitoring", nil, "200", "enabled", ""},
	{categories, "/latest/dynamic/", nil, "200", "fws/\ninstance-identity/", ""},
	{categories, "/latest/meta-data/instance-life-cycle", nil, "200", "on-demand", ""},
	{categories, "/latest/meta-data/ipv6", nil, "200", "2001:db8:1234:1a00::5", ""},
	{categories, "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d/ipv6s", nil, "200", "2001:db8:1234:1a00::5", ""},
	{categories, "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d/subnet-ipv6-cidr-blocks", nil, "200", "2001:db8:1234:1a00::/64", ""},
	{categories, "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d/vpc-ipv6-cidr-blocks", nil, "200", "2001:db8:1234:1a00::/56", ""},
	{categories, "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d/security-groups", nil, "200", "web\nssh", ""},
	{categories, "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d/subnet-ipv4-cidr-block", nil, "200", "~^10\\.", ""},
	{categories, "/latest/meta-data/product-codes", nil, "404", "", ""}, // "if any"
	{categories, "/latest/meta-data/kernel-id", nil, "404", "", ""},     // "if applicable"
	{categories, "/latest/meta-data/ramdisk-id", nil, "404", "", ""},
	{categories, "/1.0/meta-data/instance-type", nil, "404", "", ""}, // since 2007-08-29
	{categories, "/2007-08-29/meta-data/instance-type", nil, "200", "t2.micro", ""},
	{categories, "/2012-01-12/meta-data/tags/instance", nil, "404", "", ""}, // since 2021-03-23
	{retrieval, "/2010-01-01/meta-data/", nil, "404", "", ""},
	{retrieval, "/2021-03-23/", nil, "200", "dynamic\nmeta-data\nuser-data", ""},
	{spotAt, "/latest/meta-data/spot/instance-action", nil, "404", "", ""},
	{spotAt, "/latest/meta-data/spot/termination-time", nil, "404", "", ""},
	{rebalance, "/latest/meta-data/events/recommendations/rebalance", nil, "404", "", ""},
	{lifecycle, "/latest/meta-data/autoscaling/target-lifecycle-state", nil, "404", "", ""},
	{roleAt, "/latest/meta-data/iam/security-credentials/", nil, "200", "s3access", ""},
	{roleAt, "/latest/meta-data/iam/security-credentials/s3access", nil, "200", `~(?s)^\{\n  "Code" : "Success",\n  "LastUpdated" : "[-0-9T:]+Z",\n` +
		`  "Type" : "AWS-HMAC",\n  "AccessKeyId" : "ASIA[A-Z0-9]{16}",\n` +
		`  "SecretAccessKey" : "[^"]{40}",\n  "Token" : "[^"]+",\n  "Expiration" : "[-0-9T:]+Z"\n}$`, ""},
	{categories, "/latest/meta-data/iam/info", nil, "200", `~"InstanceProfileArn" : "arn:aws:iam::123456789012:instance-profile/s3access"`, ""},
	{categories, "/latest/meta-data/identity-credentials/ec2/info", nil, "200", `~"AccountId" : "123456789012"`, ""},
	{categories, "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance", nil, "200", `~"Type" : "AWS-HMAC"`, ""},
	{identityAt, "/latest/dynamic/instance-identity/document", nil, "200", `~(?s)"accountId" : "123456789012",.*"availabilityZone" : "us-east-1f",.*` +
		`"billingProducts" : null,.*"instanceId" : "i-1234567890abcdef0",.*"pendingTime" : "2019-10-31T07:02:24Z",.*"version" : "2017-09-30"`, ""},
	{identityAt, "/latest/dynamic/instance-identity/", nil, "200", "document\npkcs7\nrsa2048\nsignature", ""},
	{identityAt, "/latest/dynamic/instance-identity/none", nil, "404", "", ""},
	{identityAt, "/latest/dynamic/instance-identity/signature", nil, "200", "~^[A-Za-z0-9+/\n]+=*$", ""},
	{identityAt, "/latest/dynamic/instance-identity/pkcs7", nil, "200", "~^MII[A-Za-z0-9+/\n]+=*$", ""},
	{identityAt, "/latest/dynamic/instance-identity/rsa2048", nil, "200", "~^MII[A-Za-z0-9+/\n]+=*$", ""},
	{guide + "user-data.html", "/latest/user-data", nil, "200", "1234,john,reboot,true | 4512,richard, | 173,,,", "content-type: application/octet-stream"},
	{retrieval, "/2021-03-23/meta-data/ami-id", nil, "200", "ami-0abcdef1234567890", ""},
	{doubleAt, "/latest/meta-data//iam/security-credentials/", nil, "200", "s3access", ""},
	{headersAt, "/latest/meta-data/ami-id", nil, "200", "", "server: EC2ws"},
	{headersAt, "/latest/meta-data/ami-id", nil, "200", "", "accept-ranges: none"},
	{headersAt, "/latest/meta-data/ami-id", nil, "200", "", "connection: close"},
	{headersAt, "/latest/meta-data/dynamic/", nil, "404", "", "content-type: text/html"},
	{page404At, "/latest/meta-data/instance-life-cycle/on-demand", nil, "404",
		`~(?s)^<\?xml version="1.0" encoding="iso-8859-1"\?>\n.*\n <head>\n  <title>404 - Not Found</title>`, ""},

	{v2, "/latest/api/token", put("-H", ttlHeader+"21600"), "200", "~^[A-Za-z0-9_-]{54}==$", "x-aws-ec2-metadata-token-ttl-seconds: 21600"},
	{v2, "/latest/api/token", put("-H", ttlHeader+"1"), "200", "", "content-type: text/plain"},
	{v2, "/latest/api/token", put("-H", ttlHeader+"21601"), "400", "", ""},
	{v2, "/latest/api/token", put("-H", ttlHeader+"0"), "400", "", ""},
	{v2, "/latest/api/token", put("-H", ttlHeader+"-1"), "400", "", ""},
	{v2, "/latest/api/token", put("-H", ttlHeader+"+60"), "400", "", ""},
	{v2, "/latest/api/token", put("-H", ttlHeader+"6h"), "400", "", ""},
	{v2, "/latest/api/token", put("-H", ttlHeader+"99999999999999999999"), "400", "", ""},
	{v2, "/latest/api/token", put("-H", "X-aws-ec2-metadata-token-ttl-seconds;"), "400", "", ""},
	{v2, "/latest/api/token", put(), "400", "", ""},
	{v2, "/latest/api/token", put("-H", ttlHeader+"60", "-H", "X-Forwarded-For: 203.0.113.1"), "403", "", "-x-aws-ec2-metadata-token-ttl-seconds"},
	{v2, "/latest/api/token", put("-H", ttlHeader+"60", "-H", "x-forwarded-for: a"), "403", "", ""},
	{v2, "/latest/api/token", put("-H", ttlHeader+"60", "-H", "X-Forwarded-For;"), "403", "", ""},
	{retrieval, "/2021-03-23/api/token", put("-H", ttlHeader+"60"), "403", "", ""},
	{slashAt, "/latest/api/token/", put("-H", ttlHeader+"60"), "403", "", "content-length: 0"},
	{slashAt, "/latest/api/token", put("-H", ttlHeader+"60", "-H", "Connection: keep-alive"), "200", "", "-connection"},
	{v2, "/latest/meta-data/", put("-H", ttlHeader+"60"), "403", "", ""},
	{expectAt, "/latest/api/token", put("-H", ttlHeader+"60", "-H", "Expect: 100-continue"), "417", "", ""},
	{methodAt, "/latest/api/token", []string{"-X", "GET"}, "405", "", "allow: OPTIONS, PUT"},
	{optionsAt, "/latest/api/token", []string{"-X", "OPTIONS"}, "200", "", "allow: OPTIONS, PUT"},
	{optionsAt, "/latest/meta-data/", []string{"-X", "OPTIONS"}, "200", "", "content-length: 0"},
	{methodAt, "/latest/api/token", []string{"-I"}, "405", "", ""}, // HEAD
	{methodAt, "/latest/api/token", []string{"-X", "POST", "-H", ttlHeader + "60"}, "405", "", ""},
	{v2, "/latest/meta-data/ami-id", []string{"-X", "POST"}, "405", "", ""},
	{v2, "/latest/meta-data/ami-id", []string{"-X", "DELETE", "-H", tokenHead}, "405", "", ""},
	{v2, "/latest/meta-data/ami-id", []string{"-I", "-H", tokenHead}, "200", "", "content-length: 21"}, // HEAD
	{v2, "/latest/meta-data/ami-id", []string{"-I"}, "200", "", "content-length: 21"},
	{v2, "/latest/meta-data/none", []string{"-I", "-H", tokenHead}, "404", "", ""},
	{v2, "/latest/meta-data/", []string{"-I", "-H", tokenHead}, "200", "", "content-type: text/plain"},
	{v2, "/latest/meta-data/ami-id", []string{"-H", tokenHead}, "200", "", "~x-aws-ec2-metadata-token-ttl-seconds: 21(600|599|598|5..)"},
	{v2, "/latest/meta-data/ami-id", []string{"-H", "X-aws-ec2-metadata-token: AQAEAJHtU0Tt2q3W6G9KqKpejCXBm3KCiisAAXE_S8JNQyx4SA6uEw=="}, "401", "", ""},
	{v2, "/latest/meta-data/ami-id", []string{"-H", "X-aws-ec2-metadata-token;"}, "401", "", ""},
	{v2, "/latest/meta-data/ami-id", []string{"-H", "X-Forwarded-For: 203.0.113.1"}, "200", "", ""}, // PUT alone is refused
}

// TestGuide asks curl for every row of the table.
func TestGuide(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state.yaml")
	if err := os.WriteFile(state, []byte(instance), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, nil, "--listen", "127.0.0.1:0", "--state", state)
	session := token(t, s.URL)
	for _, r := range documented {
		manners := [][]string{r.args}
		if r.args == nil {
			manners = [][]string{{}, {"-H", tokenHead}}
		}
		for _, args := range manners {
			r.check(t, s.URL, session, args)
		}
	}
	summary := s.end(t)
	expected := 0
	for _, c := range s.calls {
		if c.Version == "v1" && (c.Method == http.MethodGet || c.Method == http.MethodHead) && c.Status == 200 {
			expected++
		}
	}
	if summary.NoToken != expected || expected < 45 || summary.Rejected != 0 {
		t.Errorf("MetadataNoToken is %d, and %d v1 calls succeeded; rejected %d", summary.NoToken, expected, summary.Rejected)
	}
}

func (r request) check(t *testing.T, url, session string, args []string) {
	t.Helper()
	given := append([]string{url + r.path}, args...)
	for i := range given {
		given[i] = strings.Replace(given[i], "TOKEN", session, 1)
	}
	got, err := curl(t, nil, given...)
	about := strings.Join(append([]string{r.path}, args...), " ") + "\n  " + r.source
	if err != nil {
		t.Errorf("%s: %v", about, err)
		return
	}
	if !strings.HasPrefix(got.Status, r.status) {
		t.Errorf("%s: %s, want %s", about, got.Status, r.status)
	}
	pattern, isPattern := strings.CutPrefix(r.body, "~")
	if isPattern && !regexp.MustCompile(pattern).MatchString(got.Body) || !isPattern && r.body != "" && r.body != got.Body {
		t.Errorf("%s: the body is %q", about, got.Body)
	}
	if absent, no := strings.CutPrefix(r.header, "-"); no {
		if v, there := got.Headers[absent]; there {
			t.Errorf("%s: there is a header %s: %s", about, absent, v)
		}
		return
	}
	header, isPattern := strings.CutPrefix(r.header, "~")
	name, value, _ := strings.Cut(header, ": ")
	if has := got.Headers[name]; r.header != "" && has != value && !(isPattern && regexp.MustCompile("^"+value+"$").MatchString(has)) {
		t.Errorf("%s: %s is %q, want %q", about, name, has, value)
	}
}

// TestRequiredAndDisabled asks with curl what changes when v1 is off, and when the endpoint is.
func TestRequiredAndDisabled(t *testing.T) {
	s := start(t, nil, "--listen", "127.0.0.1:0", "--tokens", "required", "--role", "web")
	session := token(t, s.URL)
	const id = "/latest/meta-data/instance-id"
	for _, r := range []request{
		{page401At, id, []string{}, "401", "~<title>401 - Unauthorized</title>", "content-length: 343"},
		{v2, id, []string{"-I"}, "401", "", ""},
		{v2, "/", []string{}, "401", "", ""},
		{v2, "/latest/meta-data/none", []string{}, "401", "", ""}, // v1 is refused before it is looked for
		{v2, "/latest/user-data", []string{}, "401", "", ""},
		{v2, "/latest/meta-data/iam/security-credentials/web", []string{}, "401", "", ""},
		{v2, id + "?X-aws-ec2-metadata-token=TOKEN", []string{}, "401", "", ""},
		{v2, id, []string{"-H", "Cookie: X-aws-ec2-metadata-token=TOKEN"}, "401", "", ""},
		{v2, id, []string{"-H", tokenHead}, "200", "i-0123456789abcdef0", ""},
		{v2, "/latest/user-data", []string{"-H", tokenHead}, "404", "", ""},
		{v2, "/latest/meta-data/none", []string{"-H", tokenHead}, "404", "", ""},
		{tagsAt, "/latest/meta-data/tags/instance", []string{"-H", tokenHead}, "404", "", ""}, // not enabled
		{tagsAt, "/latest/meta-data/tags/", []string{"-H", tokenHead}, "404", "", ""},
		{categories, "/latest/dynamic/fws/instance-monitoring", []string{"-H", tokenHead}, "200", "disabled", ""},
		{identityAt, "/latest/dynamic/instance-identity/document", []string{}, "401", "", ""},
		{v2, "/latest/api/token", []string{}, "405", "", ""},
	} {
		r.check(t, s.URL, session, r.args)
	}
	if summary := s.end(t); summary.NoToken != 0 || summary.Rejected != 9 {
		t.Errorf("counted %+v, want 9 refused", summary)
	}
	s = start(t, nil, "--listen", "127.0.0.1:0", "--endpoint", "disabled")
	for _, r := range []request{
		{page403At, id, []string{}, "403", "~<title>403 - Forbidden</title>", "content-type: text/html"},
		{page403At, "/latest/api/token", put("-H", ttlHeader+"60"), "403", "", "-x-aws-ec2-metadata-token-ttl-seconds"},
		{retrieval, "/", []string{}, "403", "", ""},
	} {
		r.check(t, s.URL, session, r.args)
	}
	if summary := s.end(t); summary.NoToken != 0 || summary.Rejected != 0 {
		t.Errorf("a disabled endpoint counted %+v", summary)
	}
}

// TestMistakesOfTheMock asks for what amazon-ec2-metadata-mock (pkg/mock/imdsv2, pkg/mock/handlers, pkg/server) gets wrong.
func TestMistakesOfTheMock(t *testing.T) {
	s := start(t, nil, "--listen", "127.0.0.1:0", "--role", "web")
	session := token(t, s.URL)
	for what, r := range map[string]request{
		"it gives tokens to requests that were forwarded":   {v2, "/latest/api/token", put("-H", ttlHeader+"60", "-H", "X-Forwarded-For: 1.2.3.4"), "403", "", ""},
		"it gives tokens where the path ends with a slash":  {slashAt, "/latest/api/token/", put("-H", ttlHeader+"60"), "403", "", ""},
		"it answers other methods of the token's path":      {methodAt, "/latest/api/token", []string{"-X", "GET"}, "405", "", ""},
		"it answers PUT for metadata":                       {v2, "/latest/meta-data/instance-id", put("-H", ttlHeader+"60"), "403", "", ""},
		"it answers POST for metadata":                      {v2, "/latest/meta-data/instance-id", []string{"-X", "POST"}, "405", "", ""},
		"it ignores a wrong token while v1 is allowed":      {v2, "/latest/meta-data/instance-id", []string{"-H", "X-aws-ec2-metadata-token: x"}, "401", "", ""},
		"it knows no dated builds":                          {retrieval, "/2021-03-23/meta-data/instance-id", []string{"-H", tokenHead}, "200", "", ""},
		"it lists by substring: meta-data has no such path": {retrieval, "/latest/meta-data/ami", []string{"-H", tokenHead}, "404", "", ""},
		"it has no TTL on answers to a token":               {v2, "/latest/meta-data/mac", []string{"-H", tokenHead}, "200", "", "~x-aws-ec2-metadata-token-ttl-seconds: [0-9]+"},
		"its errors are text/plain; charset=utf-8":          {headersAt, "/latest/meta-data/x", []string{"-H", tokenHead}, "404", "", "content-type: text/html"},
		"it shows tags where they are not enabled":          {tagsAt, "/latest/meta-data/tags/instance/Name", []string{"-H", tokenHead}, "404", "", ""},
	} {
		t.Run(what, func(t *testing.T) { r.check(t, s.URL, session, r.args) })
	}
}
