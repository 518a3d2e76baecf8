// Package moto starts a moto_server, an AWS that imdsctl did not write, and fills it with an organization for tests.
//
// It owns the server's process and the manifest of what is in it, and judges nothing. Each test has a server of its own,
// which ends with the test. What moto does wrong is told where it matters, in seed.py and in the tests.
package moto

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/test/python"
)

// Server is a moto_server of one test.
type Server struct {
	// URL is the endpoint, for AWS_ENDPOINT_URL.
	URL  string
	log  *bytes.Buffer
	cli  *python.CLI
	keys map[fleet.AccountID][]string // of the role in each account, as environment variables
}

// Manifest says what seed.py has put into a server.
type Manifest struct {
	Management fleet.AccountID   `json:"management_account"`
	Role       string            `json:"role"` // in every account, behind ExternalID
	ExternalID string            `json:"external_id"`
	Regions    []fleet.Region    `json:"regions"`
	ExemptTag  map[string]string `json:"exempt_tag"` // on the instances that an exception is to match
	FirstHour  time.Time         `json:"first_hour"` // of the metric's history
	Accounts   []Account         `json:"accounts"`
	Instances  []Instance        `json:"instances"`
	Templates  []Template        `json:"templates"`
	Groups     []Group           `json:"groups"`
}

// Account is an account of the organization.
type Account struct {
	ID   fleet.AccountID `json:"id"`
	Name string          `json:"name"`
}

// Instance is an instance, with the verdict that it must get ("" for terminated ones).
type Instance struct {
	Account fleet.AccountID `json:"account"`
	Region  fleet.Region    `json:"region"`
	ID      string          `json:"id"`
	Name    string          `json:"name"`
	Group   string          `json:"group"`
	State   string          `json:"state"`
	Verdict string          `json:"verdict"`
	Options fleet.Options   `json:"options"` // as seeded
	After   fleet.Options   `json:"after"`   // as a migration must leave them
}

// Template is a launch template whose versions are all "optional".
type Template struct {
	Account fleet.AccountID `json:"account"`
	Region  fleet.Region    `json:"region"`
	ID      string          `json:"id"`
	Name    string          `json:"name"`
	Default int             `json:"default"`
	Latest  int             `json:"latest"`
}

// Group is an Auto Scaling group, with the verdict of its members.
type Group struct {
	Account   fleet.AccountID `json:"account"`
	Region    fleet.Region    `json:"region"`
	Name      string          `json:"name"`
	Template  string          `json:"template"`
	Version   string          `json:"version"`
	Instances []string        `json:"instances"`
	Verdict   string          `json:"verdict"`
}

// Start starts a server on a free port of the loopback interface and waits until it answers. It ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	program := python.Need(t, "moto_server")
	for range 3 { // the port is free now, and almost surely still when the server takes it
		port := freePort(t)
		s := &Server{URL: "http://127.0.0.1:" + port, log: &bytes.Buffer{}, keys: map[fleet.AccountID][]string{}}
		cmd := exec.Command(program, "-H", "127.0.0.1", "-p", port)
		cmd.Stdout, cmd.Stderr = s.log, s.log
		cmd.Env = append(os.Environ(), "MOTO_EC2_LOAD_DEFAULT_AMIS=true")
		if err := cmd.Start(); err != nil {
			t.Fatalf("starting moto_server: %v", err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if s.answers(t.Context(), ended) {
			t.Cleanup(func() {
				_ = cmd.Process.Kill() // it may have ended by itself
				<-ended
			})
			s.cli = python.StartCLI(t)
			return s
		}
		_ = cmd.Process.Kill()
		t.Logf("moto_server on port %s did not come up:\n%s", port, s.log)
	}
	t.Fatal("moto_server did not come up")
	return nil
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("looking for a free port: %v", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// answers polls until the server answers; false when its process ends or two minutes pass.
func (s *Server) answers(ctx context.Context, ended chan error) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/moto-api/data.json", nil)
		if err != nil {
			return false
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		}
		select {
		case err := <-ended:
			ended <- err
			return false
		case <-ctx.Done():
			return false
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Seed fills the server by seed.py.
func (s *Server) Seed(t testing.TB) *Manifest {
	t.Helper()
	root, err := python.Root()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "manifest.json")
	run := exec.CommandContext(t.Context(), python.Need(t, "python"), "-B", filepath.Join(root, "test", "moto", "seed.py"),
		"--endpoint", s.URL, "--manifest", file)
	run.Env = s.Environ()
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("seeding moto: %v\n%s", err, out)
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := &Manifest{}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil {
		t.Fatalf("reading seed.py's manifest: %v", err)
	}
	return m
}

// Environ is the environment of a program that takes the server for AWS, as the management account, with none of the
// machine's own AWS settings.
func (s *Server) Environ() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") {
			env = append(env, v)
		}
	}
	return append(env, "AWS_ENDPOINT_URL="+s.URL, "AWS_ACCESS_KEY_ID=testing", "AWS_SECRET_ACCESS_KEY=testing",
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull)
}

// CLI runs the AWS CLI against the server, in an account and region, and decodes its JSON output into out.
func (s *Server) CLI(t testing.TB, m *Manifest, account fleet.AccountID, region fleet.Region, out any, args ...string) {
	t.Helper()
	env := append(s.Environ(), "AWS_DEFAULT_REGION="+string(region), "AWS_REGION="+string(region))
	if account != m.Management {
		if s.keys[account] == nil {
			s.keys[account] = s.assume(t, m, account)
		}
		env = append(env, s.keys[account]...)
	}
	s.aws(t, env, out, args...)
}

func (s *Server) assume(t testing.TB, m *Manifest, account fleet.AccountID) []string {
	t.Helper()
	var answer struct {
		Credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string }
	}
	s.aws(t, s.Environ(), &answer, "sts", "assume-role", "--role-session-name", "check", "--external-id", m.ExternalID,
		"--role-arn", fmt.Sprintf("arn:aws:iam::%s:role/%s", account, m.Role))
	c := answer.Credentials
	return []string{
		"AWS_ACCESS_KEY_ID=" + c.AccessKeyId, "AWS_SECRET_ACCESS_KEY=" + c.SecretAccessKey, "AWS_SESSION_TOKEN=" + c.SessionToken,
	}
}

func (s *Server) aws(t testing.TB, env []string, out any, args ...string) {
	t.Helper()
	answer, err := s.cli.Run(env, append(args, "--output", "json")...)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		t.Fatalf("aws %s: %v in %s", strings.Join(args, " "), err, answer)
	}
}

// Instances reads every instance of the manifest's accounts and regions with the AWS CLI: options by id, terminated
// instances left out.
func (s *Server) Instances(t testing.TB, m *Manifest) map[string]fleet.Options {
	t.Helper()
	found := map[string]fleet.Options{}
	for _, a := range m.Accounts {
		for _, r := range m.Regions {
			var answer []struct {
				ID      string
				State   string
				Options struct {
					HttpTokens, HttpEndpoint, HttpProtocolIpv6, InstanceMetadataTags string
					HttpPutResponseHopLimit                                          int
				}
			}
			s.CLI(t, m, a.ID, r, &answer, "ec2", "describe-instances", "--query",
				"Reservations[].Instances[].{ID: InstanceId, State: State.Name, Options: MetadataOptions}")
			for _, i := range answer {
				if i.State == "terminated" {
					continue
				}
				found[i.ID] = fleet.Options{
					Tokens: i.Options.HttpTokens, Endpoint: i.Options.HttpEndpoint, HopLimit: i.Options.HttpPutResponseHopLimit,
					IPv6: i.Options.HttpProtocolIpv6, Tags: i.Options.InstanceMetadataTags,
				}
			}
		}
	}
	return found
}
