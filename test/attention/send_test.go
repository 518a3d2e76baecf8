package attention

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/cli"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/gates"
)

// mailbox is a receiver of messages.
type mailbox struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	got    []message
}

type message struct {
	path, signature string
	body            string
}

func open(t *testing.T) *mailbox {
	m := &mailbox{status: http.StatusOK}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.got = append(m.got, message{r.URL.Path, r.Header.Get(gates.SignatureHeader), string(body)})
		w.WriteHeader(m.status)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mailbox) take(status int) []message {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.got
	m.got, m.status = nil, status
	return out
}

// sending is a small fleet of three owners: one is told by Slack, one by a webhook, and to one nothing leads.
func sending() *world {
	w := &world{regions: map[fleet.Region]*region{}}
	for _, owner := range []string{"payments", "search", "nobody"} {
		id := w.instance(ireland, machine{tags: team(owner, "Name", owner)})
		w.runs(owner, v1(), id)
	}
	return w
}

func TestOwnersAreTold(t *testing.T) {
	slack, hook := open(t), open(t)
	secret := t.TempDir() + "/slack"
	if err := os.WriteFile(secret, []byte(slack.URL+"/services/T0/B0/secretsecret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("IMDSCTL_TEST_KEY", "key-that-is-secret")
	c := begin(t, sending(), config+`
attention:
  routes:
    - {match: {tag: {team: payments}}, slack: {url_file: `+secret+`}}
    - {match: {tag: {team: search}}, webhook: {url: "`+hook.URL+`/imds", key_env: IMDSCTL_TEST_KEY}}
`)
	c.run(cli.ExitDone, "scan")

	// A dry run shows the messages and sends none, nor does it count as sent.
	out := c.run(cli.ExitAttention, "attention", "--send", "--dry-run")
	if !strings.Contains(out, "would be told of 1 item by Slack ("+secret+")") || !strings.Contains(out, `"imdsctl_attention":1`) ||
		!strings.Contains(out, "nobody: not told of 1 item: no route leads anywhere") {
		t.Errorf("dry run: %s", out)
	}
	if len(slack.take(200))+len(hook.take(200)) > 0 {
		t.Fatal("a dry run has sent something")
	}

	out = c.run(cli.ExitAttention, "attention", "--send") // one owner has no route
	told, asked := slack.take(200), hook.take(200)
	if len(told) != 1 || len(asked) != 1 || !strings.Contains(told[0].body, "1 thing to do for payments") || !strings.Contains(asked[0].body, `"owner":"search"`) {
		t.Fatalf("%s\n%+v\n%+v", out, told, asked)
	}
	if told[0].signature != "" || !strings.HasPrefix(asked[0].signature, "t=") || told[0].path != "/services/T0/B0/secretsecret" {
		t.Errorf("%+v %+v", told[0], asked[0])
	}

	// The same again is nothing new.
	out = c.run(cli.ExitAttention, "attention", "--send")
	if len(slack.take(200))+len(hook.take(200)) > 0 || !strings.Contains(out, "payments: nothing new for Slack") || !strings.Contains(out, "1 item sent before") {
		t.Errorf("sent again: %s", out)
	}
	// What is excepted is no item any more, and its owner hears of no other.
	if out = c.run(cli.ExitDone, "attention", "--send", "--owner", "search"); len(hook.take(200)) > 0 {
		t.Errorf("sent again: %s", out)
	}
	c.secretsAreNowhere("secretsecret", "key-that-is-secret")
}

// A receiver that refuses keeps no other from being told, and is told the next time.
func TestReceiversThatRefuse(t *testing.T) {
	slack, hook := open(t), open(t)
	t.Setenv("IMDSCTL_TEST_SLACK", slack.URL+"/services/T0/B0/secretsecret")
	t.Setenv("IMDSCTL_TEST_KEY", "key-that-is-secret")
	c := begin(t, sending(), config+`
attention:
  routes:
    - {match: {tag: {team: nobody}}, owner: silent}
    - {match: {tag: {team: payments}}, slack: {url_env: IMDSCTL_TEST_SLACK}}
    - {webhook: {url: "`+hook.URL+`/imds", key_env: IMDSCTL_TEST_KEY}}
`)
	c.run(cli.ExitDone, "scan")
	slack.take(http.StatusNotFound)
	out := strings.Join(strings.Fields(c.run(cli.ExitFailed, "attention", "--send")), " ")
	if len(slack.take(200)) != 1 || len(hook.take(200)) != 1 || !strings.Contains(out, "payments: not told:") ||
		!strings.Contains(out, "answered with status 404") ||
		strings.Contains(out, "secretsecret") || !strings.Contains(out, "silent: not told of 1 item") {
		t.Errorf("a receiver that refuses: %s", out)
	}
	out = c.run(cli.ExitAttention, "attention", "--send", "--format", "json")
	if len(slack.take(500)) != 1 || len(hook.take(200)) != 0 {
		t.Errorf("told the next time: %s", out)
	}
	var doc struct {
		Deliveries []struct {
			Owner, Target, Problem string
			Items                  []string
		} `json:"deliveries"`
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Deliveries) != 3 || strings.Contains(out, "secretsecret") {
		t.Errorf("%v: %s", err, out)
	}
	c.secretsAreNowhere("secretsecret", "key-that-is-secret")
}

// A variable that is missing, and a file that others can read, are told as what they are.
func TestSecretsThatAreMissing(t *testing.T) {
	loose := filepath.Join(t.TempDir(), "slack")
	if err := os.WriteFile(loose, []byte("https://hooks.slack.com/services/T0/B0/secretsecret"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := begin(t, sending(), config+`
attention:
  routes:
    - {match: {tag: {team: payments}}, slack: {url_env: IMDSCTL_TEST_UNSET}}
    - {match: {tag: {team: search}}, slack: {url_file: `+loose+`}}
    - {owner: rest}
`)
	c.run(cli.ExitDone, "scan")
	for _, args := range [][]string{{"attention", "--send"}, {"attention", "--send", "--dry-run"}} {
		out := strings.Join(strings.Fields(c.run(cli.ExitFailed, args...)), " ")
		if !strings.Contains(out, `"IMDSCTL_TEST_UNSET", which should hold the address`) || !strings.Contains(out, "can be read by others (mode 0644)") ||
			strings.Contains(out, "secretsecret") {
			t.Errorf("%v: %s", args, out)
		}
	}
	c.fault(core.Fault{Service: "appstream", Deny: true}) // nothing of AWS is asked
	c.secretsAreNowhere("secretsecret")
}

// secretsAreNowhere looks for secrets in everything that was written: the database and its companions.
func (c *command) secretsAreNowhere(secrets ...string) {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, "imdsctl.db*"))
	if err != nil || len(files) == 0 {
		c.t.Fatalf("no database: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, secret := range secrets {
			if strings.Contains(string(b), secret) {
				c.t.Errorf("%s holds %s", file, secret)
			}
		}
	}
}
