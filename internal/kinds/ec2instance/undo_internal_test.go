package ec2instance

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// reply is an answer of EC2, or of something that stands in for it. Without one the connection is dropped.
type reply struct {
	status int
	body   string
}

func failed(status int, code string) reply {
	return reply{status, "<Response><Errors><Error><Code>" + code + "</Code><Message>no</Message></Error></Errors>" +
		"<RequestID>r-1</RequestID></Response>"}
}

// told is what EC2 tells of an account's defaults.
func told(level string) reply {
	return reply{http.StatusOK, "<GetInstanceMetadataDefaultsResponse><accountLevel>" + level +
		"</accountLevel></GetInstanceMetadataDefaultsResponse>"}
}

// endpoint answers by action, and keeps the last request of each.
type endpoint struct {
	identity reply
	replies  map[string]reply
	asked    map[string]url.Values
}

// caller is what STS tells the edge before its first call.
func caller() reply {
	return reply{http.StatusOK, "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>111122223333</Account>" +
		"<Arn>arn:aws:iam::111122223333:root</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>"}
}

func (e *endpoint) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	action := form.Get("Action")
	e.asked[action] = form
	answer := e.replies[action]
	if action == "GetCallerIdentity" {
		answer = e.identity
	}
	if answer.status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{
		StatusCode: answer.status, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(answer.body)),
	}, nil
}

// asks asks the endpoint whether the write could be undone. Time is the test's own, so that retries cost nothing.
func (e *endpoint) asks(t *testing.T, w kind.Write) error {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC))
	edge, err := awsx.New(t.Context(), awsx.Options{
		Clock: c, Share: 1, MaxAttempts: 3, Log: slog.New(slog.DiscardHandler),
		Load: func(context.Context) (aws.Config, error) {
			return aws.Config{
				Region: "eu-west-1", BaseEndpoint: aws.String("http://ec2.invalid"), HTTPClient: e,
				Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.asked = map[string]url.Values{}
	d := Open(edge.Session(place, awsx.Role{}).Config(), place, c)
	return d.(kind.UndoChecker).CheckUndo(t.Context(), w)
}

func TestCheckUndo(t *testing.T) {
	const page = "<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>" // moto's
	const document = "<html><body>500 Internal Server Error</body></html>"
	const enforced = "<httpTokensEnforced>enabled</httpTokensEnforced>"
	const anyClass = fleet.ErrorClass("any")
	yes := failed(http.StatusPreconditionFailed, "DryRunOperation")
	tests := []struct {
		name             string
		defaults, dryRun reply
		want             fleet.ErrorClass
		says             string
	}{
		{"nothing enforced", told(""), yes, "", ""},
		{"enforcement disabled", told("<httpTokensEnforced>disabled</httpTokensEnforced>"), yes, "", ""},
		{"enforced by the account", told(enforced + "<managedBy>account</managedBy>"), yes,
			fleet.ErrConflict, "disable HttpTokensEnforced in this region first"},
		{"enforced by the organization", told(enforced + "<managedBy>declarative-policy</managedBy>"), yes,
			fleet.ErrConflict, "only the organization can allow optional again"},
		{"a policy that enforces nothing", told("<managedBy>declarative-policy</managedBy>"), yes, "", ""},
		{"defaults denied", failed(http.StatusForbidden, "UnauthorizedOperation"), yes,
			fleet.ErrDenied, "GetInstanceMetadataDefaults"},
		{"defaults throttled", failed(http.StatusServiceUnavailable, "RequestLimitExceeded"), yes, fleet.ErrThrottled, ""},
		{"a fault of EC2", failed(http.StatusInternalServerError, "InternalError"), yes, fleet.ErrTransient, ""},
		{"a page of a proxy", reply{http.StatusBadGateway, page}, yes, fleet.ErrTransient, ""},
		{"a document of a proxy", reply{http.StatusBadGateway, document}, reply{http.StatusBadGateway, document},
			anyClass, "(dry run)"},
		{"no answer", reply{}, yes, fleet.ErrTransient, ""},
		{"a region that lacks the call", failed(http.StatusBadRequest, "InvalidAction"), yes, "", ""},
		{"a stand-in that breaks on the call", reply{http.StatusInternalServerError, page}, yes, "", ""},
		{"a stand-in that breaks well-formed", reply{http.StatusInternalServerError, document}, yes, "", ""},
		{"a stand-in that lacks the call", reply{http.StatusNotImplemented, page}, yes, "", ""},
		{"the dry run denied", told(""), failed(http.StatusForbidden, "UnauthorizedOperation"),
			fleet.ErrDenied, "allow it to the role that writes"},
		{"the dry run refused", told(""), failed(http.StatusBadRequest, "UnsupportedOperation"),
			fleet.ErrConflict, "set back the metadata options of instance i-0123456789abcdef0"},
		{"the dry run broken", told(""), reply{http.StatusInternalServerError, page}, anyClass, "(dry run)"},
		{"the dry run taken for real", told(""), reply{http.StatusOK,
			"<ModifyInstanceMetadataOptionsResponse></ModifyInstanceMetadataOptionsResponse>"}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &endpoint{identity: caller(), replies: map[string]reply{
				"GetInstanceMetadataDefaults": tt.defaults, "ModifyInstanceMetadataOptions": tt.dryRun,
			}}
			before := options("optional", "2").With(fleet.State{fleet.FieldTags: fleet.Enabled})
			err := e.asks(t, kind.Write{
				Place: place, ID: "i-0123456789abcdef0", Verb: VerbSetOptions, Before: before,
				After: before.With(fleet.State{fleet.FieldTokens: fleet.TokensRequired}),
			})
			class := fleet.ClassOf(err)
			if tt.want == anyClass && err != nil {
				class = anyClass
			}
			if class != tt.want || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want class %q with %q", err, tt.want, tt.says)
			}
			if form := e.asked["ModifyInstanceMetadataOptions"]; form != nil && (form.Get("DryRun") != "true" ||
				form.Get("HttpTokens") != "optional" || form.Get("HttpPutResponseHopLimit") != "2" ||
				form.Get("HttpEndpoint") != "enabled" || form.Get("InstanceMetadataTags") != "enabled") {
				t.Errorf("asked with %v, not with what the instance has", form)
			}
		})
	}
}

// A change of the hop limit under optional tokens is asked about as well: it may be the first of a stack whose next one
// requires tokens.
func TestCheckUndoReadsEnforcementWhereTokensAreOptional(t *testing.T) {
	for tokens, read := range map[string]bool{fleet.TokensOptional: true, fleet.TokensRequired: false} {
		e := &endpoint{identity: caller(), replies: map[string]reply{
			"GetInstanceMetadataDefaults":   told(""),
			"ModifyInstanceMetadataOptions": failed(http.StatusPreconditionFailed, "DryRunOperation"),
		}}
		err := e.asks(t, kind.Write{Place: place, ID: "i-0123456789abcdef0", Verb: VerbSetOptions,
			Before: options(tokens, "1"), After: options(tokens, "2")})
		if err != nil {
			t.Errorf("%s: %v", tokens, err)
		}
		if got := e.asked["GetInstanceMetadataDefaults"] != nil; got != read {
			t.Errorf("%s: the defaults were read: %t", tokens, got)
		}
	}
}

// A failure on the way to the call, of STS for one, says nothing about the call.
func TestCheckUndoWithoutCredentials(t *testing.T) {
	e := &endpoint{identity: reply{http.StatusInternalServerError, "<html></html>"}}
	err := e.asks(t, kind.Write{Place: place, ID: "i-0123456789abcdef0", Verb: VerbSetOptions,
		Before: options("optional", "1"), After: options("required", "1")})
	if err == nil || !strings.Contains(err.Error(), "set back HttpTokens of instance") {
		t.Errorf("got %v, want that the defaults could not be read", err)
	}
}

func TestCheckUndoOfADisabledEndpoint(t *testing.T) {
	d := Open(aws.Config{Region: "eu-west-1", HTTPClient: noCalls{t}}, place, nil)
	off := fleet.State{fleet.FieldTokens: "optional", fleet.FieldEndpoint: fleet.Disabled}
	err := d.(kind.UndoChecker).CheckUndo(t.Context(), kind.Write{ID: "i-0123456789abcdef0", Before: off, After: off})
	if fleet.ClassOf(err) != fleet.ErrConflict {
		t.Errorf("got %v, want a conflict", err)
	}
}
