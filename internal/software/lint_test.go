package software_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/imdsctl/imdsctl/internal/software"
)

// A case's text has, before each line that is to be found, a line of its own: the mark and the rule. The mark's lines are taken out.
const mark = "@@ "

// expected takes the marks out of a text, and gives the lines that they stand before.
func expected(text string) (plain string, want []string) {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if rule, ok := strings.CutPrefix(strings.TrimSpace(line), mark); ok {
			want = append(want, fmt.Sprintf("%d %s", len(lines)+1, rule))
			continue
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n"), want
}

type lintCase struct{ about, name, text string }

var calling = []lintCase{
	{"curl in a script", "boot.sh", `#!/bin/bash
@@ call
ID=$(curl -s http://169.254.169.254/latest/meta-data/instance-id)
echo $ID`},
	{"curl without a scheme", "boot.sh", `
@@ call
curl 169.254.169.254/latest/meta-data/`},
	{"wget, backquotes", "boot.sh", "@@ call\nregion=`wget -qO- http://169.254.169.254/latest/dynamic/instance-identity/document | jq -r .region`"},
	{"an older version of the documents", "boot", `#!/bin/sh
@@ call
curl http://169.254.169.254/2009-04-04/meta-data/public-keys/0/openssh-key`},
	{"IPv6", "boot.sh", `
@@ call
curl -g http://[fd00:ec2::254]/latest/meta-data/instance-id`},
	{"the name of old instances", "boot.sh", `
@@ call
curl http://instance-data/latest/meta-data/local-ipv4
@@ call
curl http://instance-data.ec2.internal/latest/user-data`},
	{"a variable", "boot.sh", `
BASE=http://169.254.169.254/latest/meta-data
@@ variable
IP=$(curl -s $BASE/local-ipv4)
@@ variable
AZ=$(curl -s "${BASE}/placement/availability-zone")`},
	{"a variable made of another", "boot.sh", `
HOST="169.254.169.254"
URL="http://$HOST/latest"
@@ variable
wget -q -O - $URL/meta-data/ami-id`},
	{"an option between", "boot.sh", `
@@ call
curl --silent --retry 3 \
  --connect-timeout 2 \
  http://169.254.169.254/latest/meta-data/instance-id`},
	{"a socket of the shell", "boot.sh", `
@@ call
exec 3<>/dev/tcp/169.254.169.254/80
printf 'GET /latest/meta-data/instance-id HTTP/1.0\r\n\r\n' >&3`},
	{"the host and the path of a request's options", "id.js", `const options = {
@@ address
  host: '169.254.169.254',
  path: '/latest/meta-data/instance-id',
};
http.request(options, done).end();`},
	{"far behind the beginning of a long line", "bundle.min.js", "@@ call\n!function(){" + strings.Repeat("x();", 50_000) +
		"fetch('http://169.254.169.254/latest/meta-data/')}()"},
	{"after a comment of several lines, and one that is never closed", "id.go", `/*
Package id asks.
*/
@@ call
resp, err := http.Get("http://169.254.169.254/latest/meta-data/instance-id")
/* left open
@@ call
resp, err = http.Get("http://169.254.169.254/latest/meta-data/ami-id")`},
	{"systemd", "report.service", `[Service]
@@ call
ExecStartPre=/usr/bin/curl -o /run/id http://169.254.169.254/latest/meta-data/instance-id
ExecStart=/usr/bin/report`},
	{"a Dockerfile", "Dockerfile", `FROM alpine
@@ call
RUN wget -qO /region http://169.254.169.254/latest/meta-data/placement/region`},
	{"cloud-init", "user-data.yaml", `#cloud-config
runcmd:
@@ call
  - curl http://169.254.169.254/latest/meta-data/hostname > /etc/host
@@ call
  - [ wget, "http://169.254.169.254/latest/meta-data/ami-id", -O, /etc/ami ]`},
	{"Terraform", "main.tf", `resource "aws_instance" "a" {
  user_data = <<-EOF
    #!/bin/bash
@@ call
    export ID=$(curl -s http://169.254.169.254/latest/meta-data/instance-id)
  EOF
}`},
	{"PowerShell", "boot.ps1", `
@@ call
$id = Invoke-RestMethod -Uri http://169.254.169.254/latest/meta-data/instance-id
$base = "http://169.254.169.254/latest/meta-data"
@@ variable
$type = (Invoke-WebRequest "$base/instance-type").Content
@@ call
$c = (New-Object System.Net.WebClient).DownloadString("http://169.254.169.254/latest/user-data")`},
	{"Python, requests", "id.py", `import requests
@@ call
print(requests.get("http://169.254.169.254/latest/meta-data/instance-id", timeout=2).text)`},
	{"Python, a constant", "id.py", `import urllib.request
METADATA_URL = 'http://169.254.169.254/latest/meta-data/'

def get(path):
@@ variable
    return urllib.request.urlopen(METADATA_URL + path).read()`},
	{"Python, a constant that another module uses", "settings.py", `
@@ address
METADATA_URL = 'http://169.254.169.254/latest/meta-data/'`},
	{"Go", "id.go", `package id

import "net/http"

@@ address
const instanceID = "http://169.254.169.254/latest/meta-data/instance-id"
`},
	{"Go, at once", "id.go", `package id
func id() { 
@@ call
	resp, err := http.Get("http://169.254.169.254/latest/meta-data/instance-id")
}`},
	{"Java", "Id.java", `class Id {
  private static final String URL = "http://169.254.169.254/latest/meta-data/instance-id";
  String get() throws IOException {
@@ variable
    return read(new URL(URL).openConnection());
  }
}`},
	{"JavaScript, fetch", "id.js", `
@@ call
const r = await fetch('http://169.254.169.254/latest/meta-data/instance-id');`},
	{"JavaScript, the host apart", "id.js", `
const options = {
@@ address
  host: '169.254.169.254', // EC2 metadata
  path: '/latest/meta-data/instance-id',
};
http.get(options, cb);`},
	{"Ruby", "id.rb", `require 'net/http'
@@ call
id = Net::HTTP.get(URI('http://169.254.169.254/latest/meta-data/instance-id'))`},
	{"PHP", "id.php", `<?php
@@ call
$id = file_get_contents("http://169.254.169.254/latest/meta-data/instance-id");`},
	{"Perl", "id.pl", `
@@ call
my $id = LWP::Simple::get("http://169.254.169.254/latest/meta-data/instance-id");`},
	{"Ansible", "tasks.yml", `
- name: region
  uri:
@@ address
    url: http://169.254.169.254/latest/meta-data/placement/region
  register: region`},
	{"C", "id.c", `
@@ address
#define METADATA "http://169.254.169.254/latest/meta-data/"`},
	{"a parameter's default", "Ec2Metadata.cs", `class Ec2Metadata {
@@ address
  public Ec2Metadata(Executor e, string ip = "169.254.169.254", int port = 80) {}
  string Region() { return Get("/latest/meta-data/placement/region"); }
}`},
	{"a command that is made to be run elsewhere", "deploy.py", `
@@ call
cmd = "ssh -i key.pem ec2-user@" + ip + " 'curl http://169.254.169.254/latest/meta-data/local-ipv4' > meta.json"`},
	{"Python, a variable in a function", "ec2.py", `import urllib.request

def get_meta_data(key):
    url_path = 'http://169.254.169.254/latest/meta-data/' + key
@@ variable
    return urllib.request.urlopen(url_path).read().decode()`},
	{"Java, the base apart from the paths", "AwsMetadata.java", `public class AwsMetadata {
@@ address
  private static final String METADATA_URI_BASE = "http://169.254.169.254/";
  private static final String PUBLIC_IP = "latest/meta-data/public-ipv4";
}`},
	{"a configuration", "agent.conf", `[credentials]
@@ address
url = http://169.254.169.254/latest/meta-data/iam/security-credentials/web`},
	{"the credentials of workload identity, without the address of tokens", "aws.json", `{"credential_source": {
@@ address
  "url": "http://169.254.169.254/latest/meta-data/iam/security-credentials",
  "environment_id": "aws1"}}`},
	{"the helpers", "boot.sh", `
@@ helper
ID=$(ec2-metadata -i | cut -d' ' -f2)
@@ helper
AZ=$(/usr/bin/ec2metadata --availability-zone)`},
	{"a forgotten call, far from those with a token", "boot.sh", `TOKEN=$(curl -sX PUT http://169.254.169.254/latest/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60')
curl -H "X-aws-ec2-metadata-token: $TOKEN" http://169.254.169.254/latest/meta-data/ami-id
` + strings.Repeat("echo working\n", 20) + `@@ call
curl -s http://169.254.169.254/latest/meta-data/instance-id
`},
	{"another cloud's call beside it", "boot.sh", `
if [ "$CLOUD" = gcp ]; then curl -H 'Metadata-Flavor: Google' http://169.254.169.254/computeMetadata/v1/instance/id; fi
@@ call
curl http://169.254.169.254/latest/meta-data/instance-id`},
	{"a proxy is set, and still it calls", "boot.sh", `export no_proxy=169.254.169.254
@@ call
curl http://169.254.169.254/latest/meta-data/instance-id`},
	{"a proxy is left out for the call itself", "boot.sh", `
@@ call
no_proxy=169.254.169.254 curl http://169.254.169.254/latest/meta-data/instance-id`},
	{"Windows' line ends", "boot.cmd", "rem nothing\r\n@@ call\r\ncurl http://169.254.169.254/latest/meta-data/instance-id\r\n"},
}

var silent = []lintCase{
	{"asking for a token", "boot.sh", `TOKEN=$(curl -X PUT "http://169.254.169.254/latest/api/token" -H "X-aws-ec2-metadata-token-ttl-seconds: 21600")
curl -H "X-aws-ec2-metadata-token: $TOKEN" http://169.254.169.254/latest/meta-data/instance-id`},
	{"a function that sends the token", "boot.sh", `
imds() { curl -s -H "X-aws-ec2-metadata-token: $(token)" "http://169.254.169.254/latest/meta-data/$1"; }
token() { curl -sX PUT http://169.254.169.254/latest/api/token -H "X-aws-ec2-metadata-token-ttl-seconds: 60"; }
imds instance-id`},
	{"a fallback right beside the token", "boot.sh", `TOKEN=$(curl -sX PUT http://169.254.169.254/latest/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60')
if [ -z "$TOKEN" ]; then
  curl http://169.254.169.254/latest/meta-data/instance-id
fi`},
	{"headers made elsewhere", "boot.sh", `H="X-aws-ec2-metadata-token: $TOKEN"
` + strings.Repeat("echo working\n", 20) + `curl -s -H "$H" http://169.254.169.254/latest/meta-data/instance-id`},
	{"PowerShell with a token", "boot.ps1", `$t = Invoke-RestMethod -Headers @{"X-aws-ec2-metadata-token-ttl-seconds" = "60"} -Method PUT -Uri http://169.254.169.254/latest/api/token
Invoke-RestMethod -Headers @{"X-aws-ec2-metadata-token" = $t} -Uri http://169.254.169.254/latest/meta-data/`},
	{"Python with a token", "id.py", `URL = "http://169.254.169.254/latest/"
token = requests.put(URL + "api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}).text
` + strings.Repeat("pass\n", 30) + `requests.get(URL + "meta-data/instance-id", headers={"X-aws-ec2-metadata-token": token})`},
	{"Azure", "boot.sh", `curl -H Metadata:true "http://169.254.169.254/metadata/instance?api-version=2021-02-01"`},
	{"Azure in Python", "az.py", `r = requests.get("http://169.254.169.254/metadata/identity/oauth2/token", params={"api-version": "2018-02-01"}, headers={"Metadata": "true"})`},
	{"Google", "gcp.go", `const metadataIP = "169.254.169.254"
req.Header.Set("Metadata-Flavor", "Google")
u := "http://" + metadataIP + "/computeMetadata/v1/" + suffix`},
	{"Google, through a variable", "gcp.sh", "IP=169.254.169.254\n" + strings.Repeat("echo working\n", 20) +
		"curl -H 'Metadata-Flavor: Google' \"http://$IP/computeMetadata/v1/instance/id\""},
	{"OpenStack", "os.sh", `curl http://169.254.169.254/openstack/latest/meta_data.json`},
	{"Oracle", "oci.sh", `curl http://169.254.169.254/opc/v1/instance/`},
	{"DigitalOcean", "do.sh", `curl -s http://169.254.169.254/metadata/v1/id`},
	{"ECS", "task.sh", `curl http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI; curl "$ECS_CONTAINER_METADATA_URI_V4/task"`},
	{"EKS", "pod.sh", `curl http://169.254.170.23/v1/credentials`},
	{"the time and the name service", "ntp.conf", "server 169.254.169.123 prefer iburst\nnameserver 169.254.169.253"},
	{"a longer number", "list.txt.sh", `curl http://1169.254.169.254/latest/meta-data/; curl http://169.254.169.2540/latest/meta-data/`},
	{"no proxy", "env.sh", `export NO_PROXY=localhost,169.254.169.254`},
	{"no proxy in YAML", "values.yaml", "env:\n  no_proxy: 169.254.169.254,10.0.0.0/8\n"},
	{"a firewall", "fw.sh", `iptables -A OUTPUT -d 169.254.169.254 -j DROP
iptables -t nat -A PREROUTING -d 169.254.169.254/32 -p tcp --dport 80 -j DNAT --to 127.0.0.1:8181`},
	{"a network policy", "policy.yaml", `kind: NetworkPolicy
spec:
  egress:
  - to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}}]`},
	{"a route", "net.sh", `ip route add 169.254.169.254 dev eth0`},
	{"a check against forged requests", "guard.py", `BLOCKED = ["169.254.169.254", "127.0.0.1"]`},
	{"a test of forged requests", "url.test.ts", `const refused = [
  "http://127.0.0.1/",
  "http://169.254.169.254/latest/meta-data/",
  "http://10.1.2.3/",
];`},
	{"payloads", "scan.py", `payloads = {
    "aws_metadata": "http://169.254.169.254/latest/meta-data/",
    "octal": "http://0177.0.0.1",
}`},
	{"comments", "boot.sh", `# curl http://169.254.169.254/latest/meta-data/instance-id`},
	{"comments in Go", "id.go", "// See http://169.254.169.254/latest/meta-data/instance-id\n/* http://169.254.169.254/latest/meta-data/ */"},
	{"comments of several lines", "id.go", "/*\ncurl http://169.254.169.254/latest/meta-data/instance-id\n*/"},
	{"help in PowerShell", "id.ps1", "<#\n.EXAMPLE\nInvoke-RestMethod http://169.254.169.254/latest/meta-data/instance-id\n#>\nParam()"},
	{"suppressed on the line", "boot.sh", `curl http://169.254.169.254/latest/meta-data/instance-id # imdsctl:ignore the test host has v1`},
	{"suppressed above", "boot.sh", "# imdsctl:ignore\ncurl http://169.254.169.254/latest/meta-data/instance-id"},
	{"a package's name", "setup.sh", `yum install -y ec2-metadata-tools; apt-get install ec2metadata; pip install ec2-metadata`},
	{"a package's name in Go", "imds.go", `import "github.com/aws/aws-sdk-go/aws/ec2metadata"
client := ec2metadata.New(session)`},
	{"a module of Python", "m.py", "from ec2_metadata import ec2_metadata\nimport ec2metadata"},
	{"the helper itself", "ec2-metadata", `echo "Usage: ec2-metadata <option>"`},
	{"nothing of the kind", "boot.sh", `curl https://example.com/latest/meta-data/; echo "see instance-data for details"`},
	{"an unused address in a list of hosts", "hosts", `169.254.169.254 metadata.google.internal metadata`},
	{"a description of an API", "service-2.json", `{"documentation": "<p>To get the id, ask http://169.254.169.254/latest/meta-data/instance-id and request it.</p>"}`},
	{"sources of an SDK are for the caller to leave out, and its comments are comments", "utils.py", "# METADATA_BASE_URL = 'http://169.254.169.254/'"},
	{"workload identity with the address of tokens", "aws.json", `{"credential_source": {
  "url": "http://169.254.169.254/latest/meta-data/iam/security-credentials",
  "imdsv2_session_token_url": "http://169.254.169.254/latest/api/token"}}`},
}

func lint(name, text string) []string {
	var out []string
	for _, f := range software.Lint(name, []byte(text)) {
		out = append(out, fmt.Sprintf("%d %s", f.Line, f.Rule))
	}
	return out
}

func TestLintFinds(t *testing.T) {
	for _, c := range calling {
		t.Run(c.about, func(t *testing.T) {
			text, want := expected(c.text)
			if have := lint(c.name, text); len(want) == 0 || !slices.Equal(have, want) {
				t.Errorf("found %q in\n%s\nand it is %q", have, text, want)
			}
			for _, f := range software.Lint(c.name, []byte(text)) {
				if !strings.Contains(f.Fix, "oken") {
					t.Errorf("the fix of line %d tells nothing of tokens: %q", f.Line, f.Fix)
				}
			}
		})
	}
}

func TestLintIsSilent(t *testing.T) {
	for _, c := range silent {
		t.Run(c.about, func(t *testing.T) {
			if have := lint(c.name, c.text); len(have) != 0 {
				t.Errorf("found %q in\n%s", have, c.text)
			}
		})
	}
}

// TestLintLooksIntoBase64: user data lies in templates encoded, and at any place of the encoding's groups; the finding is at the line
// of the encoded text.
func TestLintLooksIntoBase64(t *testing.T) {
	script := "#!/bin/bash\ncurl http://169.254.169.254/latest/meta-data/instance-id\n"
	fine := strings.ReplaceAll(script, "curl", "curl -H 'X-aws-ec2-metadata-token: x'")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(script)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, encode := range []func([]byte) string{base64.StdEncoding.EncodeToString, base64.RawStdEncoding.EncodeToString} {
		for _, before := range []string{"", "#", "##", "###"} {
			text := "UserData:\n  Fn::Base64: x\nraw: " + encode([]byte(before+script)) + "\nmore: 1\n"
			if have := lint("template.yaml", text); !slices.Equal(have, []string{"3 call"}) {
				t.Errorf("found %q in %s", have, text)
			}
		}
		if have := lint("template.yaml", "a: "+encode([]byte(fine))); len(have) != 0 {
			t.Errorf("found %q in a text that sends a token", have)
		}
		if have := lint("template.json", "{\n\"UserData\": \""+encode(packed.Bytes())+"\"}"); !slices.Equal(have, []string{"2 call"}) {
			t.Errorf("found %q in compressed user data", have)
		}
	}
}

// TestLintUnfoldsBase64: mail, cloud-config and YAML fold base64, and the address lies on two lines then. Other lines around are no part
// of it.
func TestLintUnfoldsBase64(t *testing.T) {
	for before := range 60 {
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("#", before) + "\ncurl http://169.254.169.254/latest/meta-data/\n"))
		var lines []string
		for ; len(encoded) > 76; encoded = encoded[76:] {
			lines = append(lines, encoded[:76])
		}
		lines = append(lines, encoded)
		for _, indent := range []string{"", "    "} {
			text := "content: !!binary |\n" + indent + strings.Join(lines, "\r\n"+indent) + "\npath: /etc/boot\n"
			if have := lint("user-data", text); !slices.Equal(have, []string{"2 call"}) {
				t.Errorf("found %q in %s", have, text)
			}
			dir := t.TempDir()
			write(t, dir, map[string]string{"user-data": text})
			if r := scan(t, dir, software.Options{}); len(r.Raw) != 1 {
				t.Errorf("a scan finds %+v in %s", r.Raw, text)
			}
		}
	}
	long := strings.Repeat("/usr/share", 10) + "\n" // as base64 is, and not part of it
	text := long + base64.StdEncoding.EncodeToString([]byte("curl http://169.254.169.254/latest/meta-data/\n"))
	if have := lint("user-data", text); !slices.Equal(have, []string{"2 call"}) {
		t.Errorf("found %q in %s", have, text)
	}
}

func FuzzLint(f *testing.F) {
	for _, c := range append(calling, silent...) {
		f.Add(c.name, c.text)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		lines := strings.Count(text, "\n") + 1
		last := 0
		for _, found := range software.Lint(name, []byte(text)) {
			if found.Line < 1 || found.Line > lines || found.Line < last || found.Fix == "" || !utf8.ValidString(found.Fix) {
				t.Fatalf("%+v of %d lines, after line %d", found, lines, last)
			}
			last = found.Line
		}
		// What asks for a token everywhere near is never found: the whole file is near when it is short.
		if lines < 5 {
			for _, found := range software.Lint(name, []byte(text+"\nX-aws-ec2-metadata-token")) {
				if found.Rule != software.RuleHelper && !strings.Contains(unfolded(text), "MTY5") && !strings.Contains(unfolded(text), "H4sI") && found.Line <= lines &&
					!encodedAddress(text) {
					t.Fatalf("%+v beside a token", found)
				}
			}
		}
	})
}

// encodedAddress tells whether a text may hold another in base64, which is judged by itself.
func encodedAddress(text string) bool {
	text = unfolded(text)
	return strings.Contains(text, "E2OS4yNTQuMTY5LjI1N") || strings.Contains(text, "xNjkuMjU0LjE2OS4yNT")
}

// unfolded is a text without what may lie between two lines of base64.
func unfolded(text string) string {
	return strings.NewReplacer("\n", "", "\r", "", " ", "", "\t", "").Replace(text)
}
