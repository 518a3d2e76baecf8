package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/attention"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/gates"
	"github.com/imdsctl/imdsctl/internal/notify"
	"github.com/imdsctl/imdsctl/internal/policy"
)

const key = "a-key-that-nobody-may-see"

var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// receiver answers with each of its statuses in turn, the last one for ever, and keeps what it was sent.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	statuses []int
	answer   func(http.ResponseWriter, int)
	bodies   [][]byte
	headers  []http.Header
}

func receive(t *testing.T, statuses ...int) *receiver {
	r := &receiver{statuses: statuses}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		status := r.statuses[min(len(r.bodies), len(r.statuses)-1)]
		r.bodies, r.headers = append(r.bodies, body), append(r.headers, req.Header)
		r.mu.Unlock()
		if r.answer != nil {
			r.answer(w, status)
			return
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, "no such thing as %s with %s\x1b[2J", req.URL, key)
	}))
	t.Cleanup(r.Close)
	return r
}

// waits is a clock that notes how long it was slept on.
type waits struct {
	*clock.Manual
	mu    sync.Mutex
	slept []time.Duration
}

func (w *waits) Sleep(ctx context.Context, d time.Duration) error {
	w.mu.Lock()
	w.slept = append(w.slept, d)
	w.mu.Unlock()
	return w.Manual.Sleep(ctx, d)
}

func sender(env map[string]string) (*notify.Sender, *waits) {
	c := &waits{Manual: clock.NewManual(start)}
	return &notify.Sender{HTTP: &http.Client{}, Clock: c, Timeout: time.Minute,
		Env:  func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		File: func(path string) ([]byte, uint32, error) { return nil, 0, errors.New("no file " + path) }}, c
}

func message(n int) notify.Message {
	m := notify.Message{Owner: "payments <&> co", At: start}
	for i := range n {
		m.Items = append(m.Items, attention.Item{ID: fmt.Sprintf("a-%d", i), Cause: attention.OldSDK, Status: assess.Blocked,
			Confidence: attention.Certain, Title: "boto3 1.9.2 knows only IMDSv1", Fix: "Upgrade boto3 to 1.12.6 or later.",
			Links: []string{"https://example.com/a?b=1"}, Workload: attention.Workload{Name: "web<script>&co", Account: "111122223333", Instances: 2}})
	}
	return m
}

func slack(t *testing.T, r *receiver) (policy.Route, map[string]string) {
	t.Helper()
	return policy.Route{Slack: policy.SlackRoute{URLEnv: "SLACK"}}, map[string]string{"SLACK": r.URL + "/services/T000/B000/secretsecret\n"}
}

func hook(r *receiver) (policy.Route, map[string]string) {
	return policy.Route{Webhook: policy.WebhookRoute{URL: r.URL + "/hook", KeyEnv: "KEY"}}, map[string]string{"KEY": key}
}

func TestSlackIsTold(t *testing.T) {
	r := receive(t, http.StatusOK)
	route, env := slack(t, r)
	s, _ := sender(env)
	sent, err := s.Send(t.Context(), route, message(2))
	if err != nil || len(sent) != 2 || len(r.bodies) != 1 {
		t.Fatalf("%d sent in %d messages: %v", len(sent), len(r.bodies), err)
	}
	body := string(r.bodies[0])
	for _, want := range []string{"payments &lt;&amp;&gt; co", "web&lt;script&gt;&amp;co", "Upgrade boto3 to 1.12.6", "<https://example.com/a?b=1|more>",
		"imdsctl attention show a-1", "2 things to do"} {
		if !strings.Contains(body, want) {
			t.Errorf("the message lacks %q: %s", want, body)
		}
	}
	if strings.Contains(body, "<script>") || r.headers[0].Get(gates.SignatureHeader) != "" {
		t.Errorf("markup of others, or a signature: %s %v", body, r.headers[0])
	}
}

// slackDocument is a message as Slack reads it.
type slackDocument struct {
	Text   string `json:"text"`
	Blocks []struct {
		Type     string                  `json:"type"`
		Text     struct{ Text string }   `json:"text"`
		Elements []struct{ Text string } `json:"elements"`
	} `json:"blocks"`
}

// Slack refuses messages beyond its limits whole.
func TestSlackLimits(t *testing.T) {
	for name, m := range map[string]notify.Message{
		"many": message(500),
		"many long ones": {Owner: "a", At: start, Items: slices.Repeat([]attention.Item{{ID: "a-1", Title: strings.Repeat("t", 400),
			Fix: strings.Repeat("f", 600)}}, 500)},
		"one": message(1),
		"longer": {Owner: strings.Repeat("ö<", 500), At: start, Items: []attention.Item{{ID: "a-1", Title: strings.Repeat("&", 5000),
			Fix: strings.Repeat("<", 5000), Workload: attention.Workload{Name: strings.Repeat(">", 5000)}}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := receive(t, http.StatusOK)
			route, env := slack(t, r)
			s, _ := sender(env)
			sent, err := s.Send(t.Context(), route, m)
			if err != nil {
				t.Fatal(err)
			}
			var doc slackDocument
			if err := json.Unmarshal(r.bodies[0], &doc); err != nil {
				t.Fatal(err)
			}
			if n := len(doc.Blocks); n > 50 || n < 3 {
				t.Errorf("%d blocks", n)
			}
			for _, b := range doc.Blocks {
				limit := map[string]int{"header": 150, "section": 3000, "context": 3000}[b.Type]
				if n := utf8.RuneCountInString(b.Text.Text); n > limit || limit == 0 || n == 0 && len(b.Elements) == 0 {
					t.Errorf("a block %s of %d characters", b.Type, n)
				}
			}
			if left := fmt.Sprintf("and %d more", len(m.Items)-len(sent)); len(m.Items) == 500 && (len(sent) < 8 ||
				len(sent) != len(doc.Blocks)-3 || !strings.Contains(string(r.bodies[0]), left)) {
				t.Errorf("%d of 500 sent", len(sent))
			}
			if len(r.bodies[0]) > 12_000 { // https://github.com/slackapi/bolt-js/issues/2509
				t.Errorf("a message of %d bytes", len(r.bodies[0]))
			}
		})
	}
}

func TestWebhookIsSigned(t *testing.T) {
	r := receive(t, http.StatusNoContent)
	route, env := hook(r)
	s, _ := sender(env)
	if _, err := s.Send(t.Context(), route, message(60)); err != nil {
		t.Fatal(err)
	}
	if got, want := r.headers[0].Get(gates.SignatureHeader), gates.Sign([]byte(key), start, r.bodies[0]); got != want {
		t.Errorf("signature %q, want %q", got, want)
	}
	var doc struct {
		Version int              `json:"imdsctl_attention"`
		Owner   string           `json:"owner"`
		Items   []attention.Item `json:"items"`
	}
	if err := json.Unmarshal(r.bodies[0], &doc); err != nil || doc.Version != 1 || len(doc.Items) != 60 || doc.Items[3].Cause != attention.OldSDK {
		t.Errorf("%v: %s", err, r.bodies[0])
	}
	if r.headers[0].Get(notify.DeliveryHeader) == "" {
		t.Error("no id of the message")
	}
}

func TestTriedAgain(t *testing.T) {
	for _, tc := range []struct {
		statuses []int
		after    string // Retry-After
		tries    int
		waits    []time.Duration
		ok       bool
	}{
		{statuses: []int{500, 503, 200}, tries: 3, waits: []time.Duration{2 * time.Second, 4 * time.Second}, ok: true},
		{statuses: []int{429, 200}, after: "30", tries: 2, waits: []time.Duration{30 * time.Second}, ok: true},
		{statuses: []int{429, 200}, after: "999999", tries: 2, waits: []time.Duration{2 * time.Minute}, ok: true},
		{statuses: []int{429, 200}, after: "-5", tries: 2, waits: []time.Duration{2 * time.Second}, ok: true},
		{statuses: []int{500}, tries: 4, waits: []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second}},
		{statuses: []int{404}, tries: 1},
		{statuses: []int{400}, tries: 1},
		{statuses: []int{302}, tries: 1},
	} {
		r := receive(t, tc.statuses...)
		r.answer = func(w http.ResponseWriter, status int) {
			w.Header().Set("Retry-After", tc.after)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		}
		route, env := hook(r)
		s, c := sender(env)
		_, err := s.Send(t.Context(), route, message(1))
		if (err == nil) != tc.ok || len(r.bodies) != tc.tries || fmt.Sprint(c.slept) != fmt.Sprint(tc.waits) {
			t.Errorf("%v: %d tries, waits %v: %v", tc.statuses, len(r.bodies), c.slept, err)
		}
		if tc.statuses[0] == 302 && !strings.Contains(fmt.Sprint(err), "redirects are not followed") {
			t.Errorf("a redirect: %v", err)
		}
		for i := range r.bodies {
			if !bytes.Equal(r.bodies[i], r.bodies[0]) || r.headers[i].Get(notify.DeliveryHeader) != r.headers[0].Get(notify.DeliveryHeader) {
				t.Error("an attempt differs from the first")
			}
		}
	}
}

func TestSilence(t *testing.T) {
	release := make(chan struct{})
	r := receive(t, http.StatusOK)
	r.answer = func(http.ResponseWriter, int) { <-release }
	defer close(release)
	route, env := hook(r)
	s, c := sender(env)
	s.Timeout, s.Attempts = 20*time.Millisecond, 2
	if _, err := s.Send(t.Context(), route, message(1)); err == nil || !strings.Contains(err.Error(), "did not answer within") {
		t.Errorf("silence: %v", err)
	}
	if len(c.slept) != 1 {
		t.Errorf("waited %v", c.slept)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.Timeout = time.Minute
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := s.Send(ctx, route, message(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// No error tells a secret, whatever the receiver says back.
func TestSecretsAreHidden(t *testing.T) {
	for _, status := range []int{500, 404, 302} {
		r := receive(t, status)
		for _, way := range []func() (policy.Route, map[string]string){
			func() (policy.Route, map[string]string) { return slack(t, r) }, func() (policy.Route, map[string]string) { return hook(r) },
		} {
			route, env := way()
			s, _ := sender(env)
			_, err := s.Send(t.Context(), route, message(1))
			said := fmt.Sprint(err)
			if err == nil || strings.Contains(said, "secretsecret") || env["KEY"] != "" && strings.Contains(said, key) || strings.ContainsRune(said, '\x1b') {
				t.Errorf("%d: %q", status, said)
			}
		}
	}
	route, env := slack(t, receive(t, 200))
	env["SLACK"] = "http://127.0.0.1:1/services/T000/B000/secretsecret" // a port that others do not get, as they may one that was closed
	s, _ := sender(env)
	if _, err := s.Send(t.Context(), route, message(1)); err == nil || strings.Contains(err.Error(), "secretsecret") {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestWhereSecretsComeFrom(t *testing.T) {
	r := receive(t, http.StatusOK)
	address := r.URL + "/services/secretsecret"
	files := map[string]struct {
		content string
		mode    uint32
	}{"good": {address + "\n", 0o600}, "read-only": {address, 0o400}, "open": {address, 0o640}, "empty": {" \n", 0o600},
		"long": {strings.Repeat("x", 9999), 0o600}}
	s, _ := sender(map[string]string{"EMPTY": " ", "PLAIN": "http://hooks.example.com/secretsecret", "USER": "https://u:p@hooks.example.com/x",
		"NONE": "secretsecret"})
	s.File = func(path string) ([]byte, uint32, error) {
		f, ok := files[path]
		if !ok {
			return nil, 0, errors.New("no such file")
		}
		return []byte(f.content), f.mode, nil
	}
	for _, tc := range []struct {
		slack policy.SlackRoute
		want  string
	}{
		{policy.SlackRoute{URLFile: "good"}, ""}, {policy.SlackRoute{URLFile: "read-only"}, ""},
		{policy.SlackRoute{URLFile: "open"}, "can be read by others (mode 0640)"}, {policy.SlackRoute{URLFile: "empty"}, "is empty"},
		{policy.SlackRoute{URLFile: "long"}, "longer than"}, {policy.SlackRoute{URLFile: "missing"}, "no such file"},
		{policy.SlackRoute{URLEnv: "UNSET"}, `"UNSET"`}, {policy.SlackRoute{URLEnv: "EMPTY"}, "is not set"},
		{policy.SlackRoute{URLEnv: "PLAIN"}, "no https address"}, {policy.SlackRoute{URLEnv: "USER"}, "no https address"},
		{policy.SlackRoute{URLEnv: "NONE"}, "no https address"},
	} {
		_, err := s.Send(t.Context(), policy.Route{Slack: tc.slack}, message(1))
		if said := fmt.Sprint(err); (err == nil) != (tc.want == "") || !strings.Contains(said, tc.want) && err != nil || strings.Contains(said, "secretsecret") {
			t.Errorf("%+v: %v, want %q", tc.slack, err, tc.want)
		}
	}
	if _, err := s.Send(t.Context(), policy.Route{Owner: "a"}, message(1)); err == nil {
		t.Error("a route that leads nowhere was taken")
	}
}
