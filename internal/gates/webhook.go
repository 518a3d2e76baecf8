package gates

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/imdsctl/imdsctl/internal/plan"
)

// SignatureHeader carries the signature of a webhook: "t=UNIX SECONDS,v1=HEX".
const SignatureHeader = "Imdsctl-Signature"

// Sign is the value of SignatureHeader for a body sent at a time: HMAC-SHA256 over the seconds, a dot and the body.
func Sign(key []byte, at time.Time, body []byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(seconds + "."))
	mac.Write(body)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// webhook asks an HTTP endpoint, which answers with JSON whether the step may go on. Anything but a clear answer is an
// error.
func (r *Reader) webhook(ctx context.Context, x *examination, g plan.Gate) error {
	key, ok := r.opt.Env(g.SecretEnv)
	if g.SecretEnv == "" || !ok || key == "" {
		return fmt.Errorf("the environment variable %q, which should hold the key of its signature, is not set; "+
			"set it for every process that reads gates", g.SecretEnv)
	}
	body, err := ask(x.q, g)
	if err != nil {
		return fmt.Errorf("write the query: %w", err)
	}
	a, err := r.consult(ctx, g, []byte(key), body)
	if err != nil {
		return err
	}
	value := "pass"
	if !a.pass {
		value = "fail"
	}
	if a.reason != "" {
		value += ": " + a.reason
	}
	x.whole(nameOf(g), a.pass, value, fmt.Sprintf("the webhook of gate %q said %s", g.Name, value))
	return nil
}

// mostAnswer bounds the answer of a webhook, in bytes.
const mostAnswer = 64 << 10

// A webhook that cannot be reached, or is out of order, is asked again after a pause, and again after twice that: what cannot be read
// puts back a step, and one lost connection is no reason for it.
const firstPause, lastPause = time.Second, 2 * time.Second

// consult asks until there is an answer or no use in asking again, all within the gate's time.
func (r *Reader) consult(ctx context.Context, g plan.Gate, key, body []byte) (answer, error) {
	bounded, stop := within(ctx, r.opt.Clock, timeoutOf(g))
	defer stop()
	for pause := firstPause; ; pause *= 2 {
		a, err := r.post(ctx, bounded, g, key, body)
		if _, again := errors.AsType[unavailable](err); !again || pause > lastPause {
			return a, err
		}
		if r.opt.Clock.Sleep(bounded, pause) != nil {
			return a, cmp.Or(ctx.Err(), err) // what the last one came to, where the gate's time is over
		}
	}
}

// unavailable is an error that says nothing of what was asked, and that may be over in a moment.
type unavailable struct{ error }

func (u unavailable) Unwrap() error { return u.error }

// post sends the signed query once and reads the answer, in the time that bounded gives. The URL may hold a secret, so errors name
// its host only.
func (r *Reader) post(ctx, bounded context.Context, g plan.Gate, key, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(bounded, http.MethodPost, g.URL, bytes.NewReader(body))
	if err != nil || req.URL.Host == "" || req.URL.Scheme != "https" && req.URL.Scheme != "http" {
		return answer{}, errors.New("its URL is not one of http or https")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "imdsctl")
	req.Header.Set(SignatureHeader, Sign(key, r.opt.Clock.Now(), body))
	client := *r.opt.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		body, err = io.ReadAll(io.LimitReader(resp.Body, mostAnswer+1))
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	switch {
	case ctx.Err() != nil:
		return answer{}, ctx.Err()
	case err != nil && errors.Is(context.Cause(bounded), errTimeout):
		return answer{}, fmt.Errorf("%s did not answer within %s", req.URL.Host, timeoutOf(g))
	case err != nil:
		err = fmt.Errorf("ask %s: %w", req.URL.Host, err)
		if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); !untrusted {
			err = unavailable{err}
		}
		return answer{}, err
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return answer{}, unavailable{fmt.Errorf("%s answered with status %d", req.URL.Host, resp.StatusCode)}
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return answer{}, fmt.Errorf("%s answered with status %d%s", req.URL.Host, resp.StatusCode, redirected(resp.StatusCode))
	case len(body) > mostAnswer:
		return answer{}, fmt.Errorf("%s answered with more than %d bytes", req.URL.Host, mostAnswer)
	}
	a, err := parseAnswer(body)
	if err != nil {
		return answer{}, fmt.Errorf("the answer of %s: %w", req.URL.Host, err)
	}
	return a, nil
}

func redirected(status int) string {
	if status >= 300 && status < 400 {
		return "; redirects are not followed"
	}
	return ""
}

// answer is what a webhook said.
type answer struct {
	pass   bool
	reason string
}

// parseAnswer reads {"pass": true, "reason": "…"}. It is stricter than JSON libraries are: "pass" must be there once,
// in this spelling, and be a boolean; other members are passed over.
func parseAnswer(body []byte) (answer, error) {
	var a answer
	dec := json.NewDecoder(bytes.NewReader(body))
	open, err := dec.Token()
	if err != nil {
		return a, fmt.Errorf("not JSON: %w", err)
	}
	if open != json.Delim('{') {
		return a, errors.New("not a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return answer{}, fmt.Errorf("not JSON: %w", err)
		}
		name := fmt.Sprint(key) // a key is always text
		if seen[name] {
			return answer{}, fmt.Errorf("%q is given twice", oneLine([]byte(name)))
		}
		seen[name] = true
		if err := a.take(dec, name); err != nil {
			return answer{}, fmt.Errorf("%q: %w", oneLine([]byte(name)), err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return answer{}, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return answer{}, errors.New("more than one JSON document")
	}
	if !seen["pass"] {
		return answer{}, errors.New(`no "pass"`)
	}
	return a, nil
}

// take reads the value of a member.
func (a *answer) take(dec *json.Decoder, name string) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	switch name {
	case "pass":
		switch string(raw) {
		case "true":
			a.pass = true
		case "false":
		default:
			return errors.New("want true or false")
		}
	case "reason":
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return errors.New("want text")
		}
		a.reason = oneLine([]byte(text))
	}
	return nil
}
