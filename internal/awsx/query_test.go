package awsx_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

var forms = awsx.QueryService{ID: "IAM", Signing: "iam", Version: "2010-05-08",
	Endpoint: func(string) string { return "https://iam.example.com" }}

type formAnswer struct {
	Names []string `xml:"Names>member"`
}

// callForms answers one call of ListThings, and gives the form that was sent.
func callForms(t *testing.T, answer func(*http.Request) (*http.Response, error)) (out formAnswer, form url.Values, last awsx.CallRecord, err error) {
	t.Helper()
	e, err := awsx.New(t.Context(), awsx.Options{
		Clock: newFake(t).clock, Jitter: func() float64 { return 0.5 }, MaxAttempts: 2,
		Recorder: awsx.RecorderFunc(func(r awsx.CallRecord) { last = r }),
		Load: func(context.Context) (aws.Config, error) {
			return aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("111122223333", "secret", ""),
				HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					body, err := io.ReadAll(r.Body)
					if err != nil {
						return nil, err
					}
					if strings.Contains(string(body), "GetCallerIdentity") {
						return reply(200, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:root</Arn>`+
							`<Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)(r)
					}
					if !strings.Contains(r.Header.Get("Authorization"), "/us-east-1/iam/aws4_request") || r.URL.String() != "https://iam.example.com/" {
						t.Errorf("sent to %s with %q", r.URL, r.Header.Get("Authorization"))
					}
					form, err = url.ParseQuery(string(body))
					if err != nil {
						return nil, err
					}
					return answer(r)
				})}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	place := fleet.Place{Partition: fleet.PartitionAWS, Account: "111122223333"}
	_, err = forms.Call(t.Context(), e.Session(place, awsx.Role{}).Config(), "ListThings", url.Values{"Filter.member.1": {"a b"}}, &out)
	return out, form, last, err
}

func TestQueryCalls(t *testing.T) {
	out, form, last, err := callForms(t, reply(200, `<?xml version="1.0"?><ListThingsResponse xmlns="https://iam.example.com/doc/">
		<ListThingsResult><Names><member>x</member><member>y&amp;z</member></Names></ListThingsResult>
		<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></ListThingsResponse>`))
	if err != nil || len(out.Names) != 2 || out.Names[1] != "y&z" {
		t.Errorf("%+v, %v", out, err)
	}
	if form.Get("Action") != "ListThings" || form.Get("Version") != "2010-05-08" || form.Get("Filter.member.1") != "a b" {
		t.Errorf("sent %v", form)
	}
	if last.Action != "iam:ListThings" {
		t.Errorf("recorded as %q", last.Action)
	}
}

// TestQueryAnswersThatAreNone: a refusal has its class, and what is not the whole answer is never taken for an empty one.
func TestQueryAnswersThatAreNone(t *testing.T) {
	refused := func(code string) string {
		return `<ErrorResponse xmlns="x"><Error><Type>Sender</Type><Code>` + code + `</Code><Message>no</Message></Error></ErrorResponse>`
	}
	for name, tt := range map[string]struct {
		status int
		body   string
		class  fleet.ErrorClass
	}{
		"denied":         {403, refused("AccessDenied"), fleet.ErrDenied},
		"throttled":      {400, refused("Throttling"), fleet.ErrThrottled},
		"gone":           {404, refused("NoSuchEntity"), fleet.ErrGone},
		"a proxy's page": {502, `<html>bad gateway</html>`, fleet.ErrTransient},
		"cut short":      {200, `<ListThingsResponse><ListThingsResult><Names><member>x</member>`, fleet.ErrTransient},
		"cut after":      {200, `<ListThingsResponse><ListThingsResult><Names/></ListThingsResult>`, fleet.ErrTransient},
		"another answer": {200, `<ListRolesResponse><ListRolesResult/></ListRolesResponse>`, fleet.ErrTransient},
		"no result":      {200, `<ListThingsResponse/>`, fleet.ErrTransient},
		"nothing":        {200, ``, fleet.ErrTransient},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := callForms(t, reply(tt.status, tt.body))
			if fleet.ClassOf(err) != tt.class {
				t.Errorf("class %q, want %q: %v", fleet.ClassOf(err), tt.class, err)
			}
		})
	}
}
