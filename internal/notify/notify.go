// Package notify tells owners of their work: by Slack's incoming webhooks, or by a JSON document that is sent to an HTTP endpoint and
// signed as the webhooks of gates are.
//
// It owns the form of the messages, the limits of Slack, and the sending: one message for an owner, tried again after 429, 5xx and
// silence, with growing waits. It keeps no record: whoever calls it does, because only who records what was sent can tell what is
// still to be. Where it is interrupted, a message may have arrived that it does not report.
//
// The address of an incoming webhook, and the key of a signature, are secrets. They come from an environment variable or from a file
// that only its owner can read, are read when they are needed, and appear in no error, no log line and no message.
package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/imdsctl/imdsctl/internal/attention"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/gates"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// DeliveryHeader carries the id of a message, which is the same when it is sent again: receivers may drop what they have.
const DeliveryHeader = "Imdsctl-Delivery"

// Message is what one owner is told.
type Message struct {
	Owner string
	Items []attention.Item
	// At is when it was put together.
	At time.Time
}

// Sender sends messages. It is safe for many goroutines.
type Sender struct {
	// HTTP makes the requests. Redirects are not followed.
	HTTP  *http.Client
	Clock clock.Clock
	// Env reads an environment variable, and File a file with its permissions.
	Env  func(string) (string, bool)
	File func(string) ([]byte, uint32, error)
	// Attempts are how often a message is tried; 0 for 4. Timeout bounds each; 0 for 15 seconds.
	Attempts int
	Timeout  time.Duration
}

// Send tells an owner by a route and gives the items that the message holds: Slack's messages are limited, and what does not fit is
// for the next time. An error names the host, never the address.
func (s *Sender) Send(ctx context.Context, r policy.Route, m Message) ([]attention.Item, error) {
	req, sent, err := s.Prepare(r, m)
	if err != nil {
		return nil, err
	}
	if err := s.deliver(ctx, req); err != nil {
		return nil, fmt.Errorf("%s: %w", r.Target(), err)
	}
	return sent, nil
}

// Request is a message that is ready to be sent.
type Request struct {
	// Body is the JSON document.
	Body []byte
	url  string
	key  []byte // nil where nothing is signed
}

// Prepare makes the message of a route, with its secrets, and says which items it holds.
func (s *Sender) Prepare(r policy.Route, m Message) (*Request, []attention.Item, error) {
	if r.Silent() {
		return nil, nil, fmt.Errorf("the route at %s leads nowhere", r.Where)
	}
	if r.Slack.IsZero() {
		key, err := s.secret("the key of the webhook's signature", r.Webhook.KeyEnv, r.Webhook.KeyFile)
		if err != nil {
			return nil, nil, err
		}
		body, err := document(m)
		return &Request{Body: body, url: r.Webhook.URL, key: []byte(key)}, m.Items, err
	}
	address, err := s.secret("the address of Slack's webhook", r.Slack.URLEnv, r.Slack.URLFile)
	if err != nil {
		return nil, nil, err
	}
	if !encrypted(address) {
		return nil, nil, fmt.Errorf("%s is no https address; copy it from Slack's page of the webhook", r.Target())
	}
	body, sent, err := slackMessage(m)
	return &Request{Body: body, url: address}, sent, err
}

// mostSecret bounds a file that holds a secret, in bytes.
const mostSecret = 4096

// secret reads a secret from a variable or a file.
func (s *Sender) secret(what, variable, path string) (string, error) {
	if variable != "" {
		v, ok := s.Env(variable)
		if v = strings.TrimSpace(v); !ok || v == "" {
			return "", fmt.Errorf("the environment variable %q, which should hold %s, is not set", variable, what)
		}
		return v, nil
	}
	b, mode, err := s.File(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("read %s: %w", what, err)
	case mode&0o077 != 0:
		return "", fmt.Errorf("%s, which should hold %s, can be read by others (mode %04o): chmod 600 it, and consider it known", path, what, mode)
	case len(b) > mostSecret:
		return "", fmt.Errorf("%s, which should hold %s, is longer than %d bytes", path, what, mostSecret)
	case strings.TrimSpace(string(b)) == "":
		return "", fmt.Errorf("%s, which should hold %s, is empty", path, what)
	}
	return strings.TrimSpace(string(b)), nil
}

// encrypted tells an address to which a secret may be sent: https, or http on this machine.
func encrypted(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && a.IsLoopback())
}

// refusal is an answer after which the same message may be tried again.
type refusal struct {
	error
	// wait is what the receiver asks for; 0 where it does not say.
	wait time.Duration
}

func (r refusal) Unwrap() error { return r.error }

// Waits between attempts.
const (
	firstWait = 2 * time.Second
	// longestWait is the most that a receiver may have us wait.
	longestWait = 2 * time.Minute
)

// deliver posts a message until it is taken, refused for good, or tried often enough.
func (s *Sender) deliver(ctx context.Context, r *Request) error {
	attempts := s.Attempts
	if attempts == 0 {
		attempts = 4
	}
	wait := firstWait
	for n := 1; ; n++ {
		err := s.post(ctx, r)
		again, ok := errors.AsType[refusal](err)
		if err == nil || !ok || ctx.Err() != nil {
			return err
		}
		if n == attempts {
			return fmt.Errorf("%w, at %d attempts", again.error, attempts)
		}
		if err := s.Clock.Sleep(ctx, min(max(wait, again.wait), longestWait)); err != nil {
			return err
		}
		wait *= 2
	}
}

var errTimeout = errors.New("it took too long")

// post sends the message once. The address may be a secret, and what a failed request says holds it: errors name the host only.
func (s *Sender) post(ctx context.Context, r *Request) error {
	timeout := s.Timeout
	if timeout == 0 {
		timeout = 15 * time.Second
	}
	// By the machine's time, whatever the clock says: whoever is told is no part of a simulation.
	bounded, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(bounded, http.MethodPost, r.url, bytes.NewReader(r.Body))
	if err != nil {
		return errors.New("its address is none")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "imdsctl")
	sum := sha256.Sum256(r.Body)
	req.Header.Set(DeliveryHeader, hex.EncodeToString(sum[:16]))
	if r.key != nil {
		req.Header.Set(gates.SignatureHeader, gates.Sign(r.key, s.Clock.Now(), r.Body))
	}
	client := *s.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	host := req.URL.Host
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(context.Cause(bounded), errTimeout):
		return refusal{error: fmt.Errorf("%s did not answer within %s", host, timeout)}
	default:
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return refusal{error: fmt.Errorf("ask %s: %s", host, r.hide(err.Error()))}
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // words for people; the status decides
	return r.judge(resp, host, said)
}

// judge says what an answer means.
func (r *Request) judge(resp *http.Response, host string, said []byte) error {
	why := fmt.Sprintf("%s answered with status %d", host, resp.StatusCode)
	if line := r.hide(oneLine(said)); line != "" {
		why += ": " + line
	}
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return fmt.Errorf("%s answered with status %d; redirects are not followed", host, code)
	case code == http.StatusTooManyRequests || code >= 500:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return refusal{errors.New(why), time.Duration(min(max(seconds, 0), 3600)) * time.Second}
	default:
		return errors.New(why)
	}
}

// hide takes the message's secrets out of a text.
func (r *Request) hide(text string) string {
	if len(r.key) > 0 {
		text = strings.ReplaceAll(text, string(r.key), "[hidden]")
	}
	text = strings.ReplaceAll(text, r.url, "[hidden]")
	if u, err := url.Parse(r.url); err == nil {
		for part := range strings.SplitSeq(u.EscapedPath()+"/"+u.RawQuery, "/") {
			if len(part) >= 6 {
				text = strings.ReplaceAll(text, part, "[hidden]")
			}
		}
	}
	return text
}

// oneLine is the first line of what somebody said, without what could move a terminal's cursor, and cut.
func oneLine(said []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(strings.ToValidUTF8(string(said), "\uFFFD")), "\n")
	line = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, line)
	if runes := []rune(line); len(runes) > 120 {
		return string(runes[:119]) + "…"
	}
	return line
}
