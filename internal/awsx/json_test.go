package awsx_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// things is a service that nobody has written a client for.
var things = awsx.JSONService{ID: "Workspaces Instances", Signing: "things", Target: "ThingsV1", Version: "1.0",
	Endpoint: func(region string) string { return "https://things." + region + ".example.com" }}

type thing struct {
	Name string `json:"Name,omitempty"`
}

// transport answers in the place of a network.
type transport struct {
	answers  []func(*http.Request) (*http.Response, error)
	requests []*http.Request
	bodies   []string
}

func (t *transport) Do(r *http.Request) (*http.Response, error) {
	if r.Header.Get("X-Amz-Target") == "" { // STS
		return reply(200, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::`+callerAccount+
			`:root</Arn><UserId>1</UserId><Account>`+callerAccount+`</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	t.requests, t.bodies = append(t.requests, r), append(t.bodies, string(body))
	return t.answers[min(len(t.requests), len(t.answers))-1](r)
}

func reply(status int, body string, headers ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{"X-Amzn-Requestid": {"req-1"}, "Date": {epoch.Add(90 * time.Second).Format(http.TimeFormat)}}
		for i := 0; i+1 < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

func callThings(t *testing.T, tr *transport, operation string, change ...func(*awsx.Options)) (thing, []awsx.CallRecord, error) {
	t.Helper()
	f := newFake(t)
	var records []awsx.CallRecord
	options := func(o *awsx.Options) {
		o.HTTPClient = tr
		o.Recorder = awsx.RecorderFunc(func(r awsx.CallRecord) { records = append(records, r) })
	}
	e := f.edge(append([]func(*awsx.Options){options}, change...)...)
	var out thing
	_, err := things.Call(t.Context(), e.Session(own, awsx.Role{}).Config(), operation, thing{Name: "a"}, &out)
	return out, records, err
}

func TestJSONCallsAreLikeThoseOfTheSDK(t *testing.T) {
	tr := &transport{answers: []func(*http.Request) (*http.Response, error){
		reply(400, `{"__type": "com.amazonaws.things#ThrottlingException", "message": "slower"}`),
		reply(200, `{"Name": "b"}`),
	}}
	out, records, err := callThings(t, tr, "GetThing")
	if err != nil || out.Name != "b" {
		t.Fatalf("got %+v: %v", out, err)
	}
	records = slices.DeleteFunc(records, func(r awsx.CallRecord) bool { return strings.HasPrefix(r.Action, "sts:") })
	if len(records) != 2 || records[0].Action != "workspaces-instances:GetThing" || !records[0].Throttled ||
		records[0].Class != fleet.ErrThrottled || records[1].Status != 200 || records[1].RequestID != "req-1" {
		t.Errorf("records %+v", records)
	}
	r := tr.requests[1]
	if r.Header.Get("X-Amz-Target") != "ThingsV1.GetThing" || r.Header.Get("Content-Type") != "application/x-amz-json-1.0" ||
		tr.bodies[1] != `{"Name":"a"}` || r.Method != http.MethodPost || r.URL.Path != "/" {
		t.Errorf("sent %s %s %v %q", r.Method, r.URL, r.Header, tr.bodies[1])
	}
	auth := r.Header.Get("Authorization")
	if !strings.Contains(auth, "/"+string(own.Region)+"/things/aws4_request") || !strings.Contains(auth, "x-amz-target") {
		t.Errorf("signed as %q", auth)
	}
	// The first answer told that AWS's clock is a minute and a half ahead.
	first, err := time.Parse("20060102T150405Z", tr.requests[0].Header.Get("X-Amz-Date"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if ahead := second.Sub(first); err != nil || ahead < 80*time.Second {
		t.Errorf("the second attempt is signed %s after the first, %v", ahead, err)
	}
}

func TestErrorsOfJSONCalls(t *testing.T) {
	lost := func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
	nowhere := func(*http.Request) (*http.Response, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "things.eu-west-1.example.com", IsNotFound: true}
	}
	for name, tt := range map[string]struct {
		answer func(*http.Request) (*http.Response, error)
		class  fleet.ErrorClass
		code   string
	}{
		"denied":           {reply(400, `{"__type": "AccessDeniedException", "Message": "no"}`), fleet.ErrDenied, "AccessDeniedException"},
		"gone":             {reply(400, `{}`, "X-Amzn-ErrorType", "ResourceNotFoundException:http://x#y"), fleet.ErrGone, "ResourceNotFoundException"},
		"a code of old":    {reply(400, `{"code": "ValidationException"}`), fleet.ErrInvalid, "ValidationException"},
		"a proxy's page":   {reply(502, `<html>`), fleet.ErrTransient, "UnknownError"},
		"cut short":        {reply(200, `{"Name": "b`), fleet.ErrTransient, ""},
		"no answer":        {lost, fleet.ErrTransient, ""},
		"nowhere":          {nowhere, fleet.ErrNotOffered, ""},
		"something else's": {reply(200, `[]`), fleet.ErrTransient, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tr := &transport{answers: []func(*http.Request) (*http.Response, error){tt.answer}}
			_, _, err := callThings(t, tr, "CreateThing")
			call, ok := errors.AsType[*fleet.CallError](err)
			if !ok || call.Class != tt.class || call.Code != tt.code || call.Action != "workspaces-instances:CreateThing" {
				t.Errorf("got %+v: %v", call, err)
			}
			if len(tr.requests) > 1 && tt.class == fleet.ErrTransient {
				t.Errorf("a write whose effect is unknown was sent %d times", len(tr.requests))
			}
		})
	}
}

func TestJSONCallsFindTheirEndpoint(t *testing.T) {
	tr := &transport{answers: []func(*http.Request) (*http.Response, error){reply(200, `{}`)}}
	f := newFake(t)
	e := f.edge(func(o *awsx.Options) { o.HTTPClient = tr })
	cfg := e.Session(own, awsx.Role{}).Config()
	for _, endpoint := range []string{"http://127.0.0.1:4566/aws", ""} {
		cfg.BaseEndpoint = nil
		if endpoint != "" {
			cfg.BaseEndpoint = &endpoint
		}
		if _, err := things.Call(t.Context(), cfg, "GetThing", thing{}, &thing{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := tr.requests[0].URL.String(); got != "http://127.0.0.1:4566/aws" {
		t.Errorf("sent to %s", got)
	}
	if got := tr.requests[1].URL.String(); got != "https://things.eu-west-1.example.com/" {
		t.Errorf("sent to %s", got)
	}
}

// FuzzJSONAnswers: whatever comes back is an answer or an error with a class.
func FuzzJSONAnswers(f *testing.F) {
	f.Add(200, `{"Name": "b"}`, "")
	f.Add(400, `{"__type": "a#b:c"}`, "#:")
	f.Add(500, ``, "x")
	f.Fuzz(func(t *testing.T, status int, body, header string) {
		if status < 200 || status > 599 || strings.ContainsAny(header, "\r\n\x00") {
			t.Skip("no answer of HTTP")
		}
		tr := &transport{answers: []func(*http.Request) (*http.Response, error){reply(status, body, "X-Amzn-ErrorType", header)}}
		_, _, err := callThings(t, tr, "CreateThing", func(o *awsx.Options) { o.MaxAttempts = 1 })
		_, classified := errors.AsType[*fleet.CallError](err)
		good := status < 300 && json.Unmarshal([]byte(body), &thing{}) == nil
		if good != (err == nil) || err != nil && !classified {
			t.Errorf("%d %q gave %v", status, body, err)
		}
	})
}
