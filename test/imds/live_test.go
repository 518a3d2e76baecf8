//go:build unix

package imds

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// writeState writes a state file, or writes it anew.
func writeState(t *testing.T, path, text string) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "state.yaml")
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// reload sends SIGHUP and waits until the program has said something.
func (s *service) reload(t *testing.T, says string) {
	t.Helper()
	before := strings.Count(s.err.String(), says)
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); strings.Count(s.err.String(), says) == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not say %q in a minute, but:\n%s", says, &s.err)
		}
	}
}

// TestChangesWhileItRuns takes v1 away and gives it back; a file with a mistake changes nothing; flags stay over the file.
func TestChangesWhileItRuns(t *testing.T) {
	state := writeState(t, "", "tokens: optional\nimage_id: ami-1\n")
	s := start(t, nil, "--listen", "127.0.0.1:0", "--state", state, "--instance-id", "i-0feed")
	session := token(t, s.URL)
	status := func(args ...string) string {
		r, err := curl(t, nil, append([]string{s.URL + "/latest/meta-data/ami-id"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return r.Status[:3] + " " + strings.TrimSpace(r.Body[:min(len(r.Body), 5)])
	}
	expect := func(what, want string, args ...string) {
		t.Helper()
		if got := status(args...); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	expect("v1 while it is allowed", "200 ami-1")
	writeState(t, state, "tokens: required\nimage_id: ami-2\n")
	s.reload(t, "IMDSv2 only")
	expect("v1 while it is not", "401 <?xml")
	expect("a token from before", "200 ami-2", "-H", "X-aws-ec2-metadata-token: "+session)
	writeState(t, state, "tokens: requierd\n")
	s.reload(t, "The old state goes on: IMDSv2 only")
	expect("v1 after a mistake in the file", "401 <?xml")
	writeState(t, state, "endpoint: disabled\n")
	s.reload(t, "the endpoint is disabled")
	expect("a disabled endpoint", "403 <?xml")
	writeState(t, state, "image_id: ami-3\n")
	s.reload(t, "IMDSv1 and IMDSv2")
	expect("v1 when it is back", "200 ami-3")
	if r, err := curl(t, nil, s.URL+"/latest/meta-data/instance-id"); err != nil || r.Body != "i-0feed" {
		t.Errorf("the flag over the file: %v %+v", err, r)
	}
	if summary := s.end(t); summary.NoToken != 3 || summary.Rejected != 2 {
		t.Errorf("counted %+v, want 3 and 2", summary)
	}
}

// TestAnotherRegion gives a region over a file that names a zone: the zone is the file's no more.
func TestAnotherRegion(t *testing.T) {
	state := writeState(t, "", "availability_zone: us-east-1b\navailability_zone_id: use1-az4\n")
	for region, want := range map[string]string{"us-east-1": "us-east-1b", "eu-west-1": "eu-west-1a"} {
		s := start(t, nil, "--listen", "127.0.0.1:0", "--state", state, "--region", region)
		zone, err := curl(t, nil, s.URL+"/latest/meta-data/placement/availability-zone")
		if err != nil || zone.Body != want {
			t.Errorf("in %s the zone is %q, want %s: %v", region, zone.Body, want, err)
		}
		id, err := curl(t, nil, s.URL+"/latest/meta-data/placement/availability-zone-id")
		if has := id.Body == "use1-az4"; err != nil || has != (region == "us-east-1") {
			t.Errorf("in %s the id of the zone is %q: %v", region, id.Body, err)
		}
	}
}

// TestIPv6 asks some of the table over IPv6, and again when the instance's IPv6 endpoint is disabled: then nothing answers.
func TestIPv6(t *testing.T) {
	state := writeState(t, "", instance+"ipv6: enabled\n")
	s := start(t, nil, "--listen", "[::1]:0", "--state", state)
	session := token(t, s.URL)
	rows := []request{
		{v2, "/latest/api/token", put("-H", ttlHeader+"60"), "200", "~^[A-Za-z0-9_-]{54}==$", ""},
		{v2, "/latest/api/token", put("-H", ttlHeader+"60", "-H", "X-Forwarded-For: ::1"), "403", "", ""},
		{retrieval, "/latest/meta-data/ami-id", []string{"-H", tokenHead}, "200", "ami-0abcdef1234567890", ""},
		{retrieval, "/latest/meta-data/ami-id", []string{}, "200", "ami-0abcdef1234567890", ""},
		{retrieval, "/latest/meta-data/none", []string{"-H", tokenHead}, "404", "", ""},
	}
	for _, r := range rows {
		r.check(t, s.URL, session, r.args)
	}
	writeState(t, state, instance+"ipv6: disabled\n")
	s.reload(t, "IMDSv1 and IMDSv2")
	for _, r := range rows {
		got, err := curl(t, nil, append([]string{"-g", s.URL + r.path}, r.args...)...)
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 52 { // nothing was answered
			t.Errorf("%s with the endpoint disabled: %v %+v", r.path, err, got)
		}
	}
}

// TestLogHasNoSecrets reads what the program wrote of calls with tokens and credentials, for people and as JSON.
func TestLogHasNoSecrets(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"table", "json"} {
		var out, said lockedBuffer
		cmd := exec.Command(path, "imds", "serve", "--listen", "127.0.0.1:0", "--role", "web", "--format", format)
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); !strings.Contains(said.String(), "SERVICE_ENDPOINT="); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("it does not begin: %s", &said)
			}
		}
		_, url, _ := strings.Cut(said.String(), "SERVICE_ENDPOINT=")
		url, _, _ = strings.Cut(url, " ")
		session := token(t, url)
		role, err := curl(t, nil, url+"/latest/meta-data/iam/security-credentials/web", "-H", "X-aws-ec2-metadata-token: "+session)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := curl(t, nil, url+"/latest/%1b[31m/"+session+"?t="+session, "-g"); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("it ended with %v: %s", err, &said)
		}
		var secrets struct{ SecretAccessKey, Token string }
		if err := json.Unmarshal([]byte(role.Body), &secrets); err != nil || secrets.Token == "" {
			t.Fatalf("no credentials in %+v: %v", role, err)
		}
		all := out.String() + said.String()
		if n := strings.Count(out.String(), "security-credentials/web"); n != 1 || !strings.Contains(all, "[redacted]") {
			t.Errorf("%s: the call is logged %d times:\n%s", format, n, all)
		}
		for _, secret := range []string{session, secrets.SecretAccessKey, secrets.Token, "\x1b[31m"} {
			if strings.Contains(all, secret) {
				t.Errorf("%s: %q is in the log:\n%s", format, secret, all)
			}
		}
	}
}

// TestScannedInstance plays an instance of a scan as the scan saw it.
func TestScannedInstance(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	sim := exec.Command(path, "sim", "serve", "--scenario", "small", "--quiet")
	out, err := sim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Process.Signal(os.Interrupt); _ = sim.Wait() })
	var said struct {
		Listening string
		Key       string `json:"access_key_id"`
	}
	if err := json.NewDecoder(out).Decode(&said); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config, db := filepath.Join(dir, "imdsctl.yaml"), filepath.Join(dir, "fleet.db")
	writeState(t, config, "organization: {discover: organizations, role: {external_id: imdsctl-demo}, regions: [eu-west-1]}\n")
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, append([]string{"--config", config, "--db", db}, args...)...)
		cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+said.Listening, "AWS_ACCESS_KEY_ID="+said.Key, "AWS_SECRET_ACCESS_KEY=sim",
			"AWS_REGION=eu-west-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE="+filepath.Join(dir, "none"),
			"AWS_PROFILE=", "AWS_DEFAULT_PROFILE=", "AWS_SESSION_TOKEN=") // whatever the caller has
		got, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return got
	}
	run("scan")
	var list struct {
		Resources []struct {
			Ref   string
			State map[string]string
			Attrs map[string]string
		}
	}
	if err := json.Unmarshal(run("resources", "--kind", "ec2-instance", "--format", "json"), &list); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range list.Resources {
		id := r.Ref[strings.LastIndex(r.Ref, "/")+1:]
		if r.Attrs["instance-profile"] == "" || seen[r.State["HttpTokens"]] || r.State["HttpEndpoint"] == "disabled" {
			continue
		}
		seen[r.State["HttpTokens"]] = true
		s := start(t, nil, "--listen", "127.0.0.1:0", "--config", config, "--db", db, "--instance", id)
		v1, err := curl(t, nil, s.URL+"/latest/meta-data/ami-id")
		want := map[string]string{"optional": "200", "required": "401"}[r.State["HttpTokens"]]
		if err != nil || !strings.HasPrefix(v1.Status, want) {
			t.Errorf("%s has tokens %s, and v1 gets %v %+v", id, r.State["HttpTokens"], err, v1)
		}
		session := "X-aws-ec2-metadata-token: " + token(t, s.URL)
		for path, want := range map[string]string{
			"instance-id": id, "ami-id": r.Attrs["image"], "instance-type": r.Attrs["instance-type"], "placement/region": "eu-west-1",
			"network/interfaces/macs/": "", "iam/security-credentials/": "",
		} {
			got, err := curl(t, nil, s.URL+"/latest/meta-data/"+path, "-H", session)
			if hasRole := r.Attrs["instance-profile"] != ""; path == "iam/security-credentials/" && hasRole != strings.HasPrefix(got.Status, "200") {
				t.Errorf("%s, with profile %q: %+v", id, r.Attrs["instance-profile"], got)
			} else if err != nil || want != "" && got.Body != want {
				t.Errorf("%s %s: %v %q, want %q", id, path, err, got.Body, want)
			}
		}
		s.end(t)
		if strings.Contains(s.err.String(), "Note:") {
			t.Errorf("%s has the profile %q, and its role is a guess, though the scan reads roles: %s", id, r.Attrs["instance-profile"], &s.err)
		}
	}
	if !seen["optional"] || !seen["required"] {
		t.Errorf("the scan has %v alone", seen)
	}
	if out, err := exec.Command(path, "--config", config, "--db", db, "imds", "serve", "--instance", "i-none").CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "no scan has seen this instance") {
		t.Errorf("an instance that is not there: %v %s", err, out)
	}
}
