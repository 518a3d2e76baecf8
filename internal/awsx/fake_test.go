package awsx_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

const (
	callerAccount = "111111111111"
	memberAccount = "222222222222"
	hubAccount    = "333333333333"
	baseKey       = "AKIABASE"
	baseSecret    = "base-secret-0123456789"
	baseToken     = "base-token-0123456789"
)

var (
	epoch  = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	member = fleet.Place{Partition: fleet.PartitionAWS, Account: memberAccount, Region: "eu-west-1"}
	own    = fleet.Place{Partition: fleet.PartitionAWS, Account: callerAccount, Region: "eu-west-1"}
	reader = awsx.Role{Name: "imdsctl-read", ExternalID: "ext-1"}
)

// seen is a request as the fake AWS got it.
type seen struct {
	Action    string
	Region    string
	AccessKey string
	Signature string
	Token     string
	Body      string
	Form      url.Values
	Time      time.Time
	N         int // of this action, from 1
}

// answer is what the fake gives back. The zero answer is a success.
type answer struct {
	status  int
	code    string
	message string
	body    string // of a success
	hang    bool   // until the client goes away
	reset   bool   // drops the connection without an answer
}

// fakeAWS answers STS in its query protocol and CloudWatch in AWS JSON 1.0.
type fakeAWS struct {
	t      *testing.T
	clock  *clock.Manual
	server *httptest.Server
	// on answers an action before the defaults do; false leaves it to them.
	on func(seen) (answer, bool)
	// skew of the server's clock.
	skew time.Duration
	// life of assumed credentials.
	life time.Duration

	mu     sync.Mutex
	calls  []seen
	counts map[string]int
	owners map[string]string // access key → ARN
}

func newFake(t *testing.T) *fakeAWS {
	t.Helper()
	f := &fakeAWS{
		t: t, clock: clock.NewManual(epoch), counts: map[string]int{}, life: time.Hour,
		owners: map[string]string{baseKey: "arn:aws:iam::" + callerAccount + ":user/someone"},
	}
	f.server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.server.Close)
	return f
}

func (f *fakeAWS) edge(change ...func(*awsx.Options)) *awsx.Edge {
	f.t.Helper()
	o := awsx.Options{
		Clock: f.clock, Share: 1, Jitter: func() float64 { return 0.5 },
		Load: func(context.Context) (aws.Config, error) {
			return aws.Config{
				Region: "eu-west-1", BaseEndpoint: &f.server.URL,
				Credentials: credentials.NewStaticCredentialsProvider(baseKey, baseSecret, baseToken),
			}, nil
		},
	}
	for _, c := range change {
		c(&o)
	}
	e, err := awsx.New(f.t.Context(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

func (f *fakeAWS) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.verify(r, body)
	s := f.note(r, string(body))
	a, ok := answer{}, false
	if f.on != nil {
		a, ok = f.on(s)
	}
	if !ok {
		a = f.standard(s)
	}
	w.Header().Set("Date", f.clock.Now().Add(f.skew).Format(http.TimeFormat))
	w.Header().Set("X-Amzn-Requestid", fmt.Sprintf("req-%s-%d", s.Action, s.N))
	switch {
	case a.hang:
		<-r.Context().Done()
	case a.reset:
		panic(http.ErrAbortHandler)
	case s.Form != nil:
		writeXML(w, s.Action, a)
	default:
		writeJSON(w, a)
	}
}

// verify signs the request again, as AWS does, and compares.
func (f *fakeAWS) verify(r *http.Request, body []byte) {
	auth := r.Header.Get("Authorization")
	_, rest, _ := strings.Cut(auth, "Credential=")
	scope := strings.Split(rest, "/")
	_, rest, _ = strings.Cut(auth, "SignedHeaders=")
	names, _, _ := strings.Cut(rest, ",")
	when, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || len(scope) < 4 {
		f.t.Errorf("not signed: %q", auth)
		return
	}
	again, err := http.NewRequest(r.Method, f.server.URL+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		f.t.Error(err)
		return
	}
	for name := range strings.SplitSeq(names, ";") {
		if name != "host" && name != "content-length" {
			again.Header.Set(name, r.Header.Get(name))
		}
	}
	creds := aws.Credentials{AccessKeyID: scope[0], SecretAccessKey: "secret-of-" + scope[0], SessionToken: r.Header.Get("X-Amz-Security-Token")}
	if scope[0] == baseKey {
		creds.SecretAccessKey = baseSecret
	}
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(r.Context(), creds, again, hex.EncodeToString(sum[:]), scope[3], scope[2], when)
	if err != nil || again.Header.Get("Authorization") != auth {
		f.t.Errorf("wrong signature: %v\n got %s\nwant %s", err, auth, again.Header.Get("Authorization"))
	}
}

func (f *fakeAWS) note(r *http.Request, body string) seen {
	s := seen{Body: body, Time: f.clock.Now(), Token: r.Header.Get("X-Amz-Security-Token")}
	for part := range strings.SplitSeq(r.Header.Get("Authorization"), " ") {
		part = strings.TrimSuffix(part, ",")
		if scope, ok := strings.CutPrefix(part, "Credential="); ok {
			fields := strings.Split(scope, "/")
			s.AccessKey, s.Region = fields[0], fields[2]
		}
		if signature, ok := strings.CutPrefix(part, "Signature="); ok {
			s.Signature = signature
		}
	}
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		_, s.Action, _ = strings.Cut(target, ".")
	} else {
		s.Form, _ = url.ParseQuery(body)
		s.Action = s.Form.Get("Action")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[s.Action]++
	s.N = f.counts[s.Action]
	f.calls = append(f.calls, s)
	return s
}

// standard is a small STS, and successes for the rest.
func (f *fakeAWS) standard(s seen) answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch s.Action {
	case "GetCallerIdentity":
		arn, ok := f.owners[s.AccessKey]
		if !ok {
			return answer{status: 403, code: "InvalidClientTokenId", message: "The security token included in the request is invalid."}
		}
		return answer{body: fmt.Sprintf("<Arn>%s</Arn><UserId>AID</UserId><Account>%s</Account>", arn, strings.Split(arn, ":")[4])}
	case "AssumeRole":
		parts := strings.Split(s.Form.Get("RoleArn"), ":")
		key := fmt.Sprintf("ASIA%s%d", parts[4], s.N)
		arn := fmt.Sprintf("arn:%s:sts::%s:assumed-%s/%s", parts[1], parts[4], parts[5], s.Form.Get("RoleSessionName"))
		f.owners[key] = arn
		return answer{body: fmt.Sprintf("<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>secret-of-%s</SecretAccessKey>"+
			"<SessionToken>token-of-%s</SessionToken><Expiration>%s</Expiration></Credentials><AssumedRoleUser><Arn>%s</Arn>"+
			"<AssumedRoleId>x</AssumedRoleId></AssumedRoleUser>",
			key, key, key, f.clock.Now().Add(f.life).Format(time.RFC3339), arn)}
	}
	return answer{body: "{}"}
}

func (f *fakeAWS) seen(action string) []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []seen
	for _, s := range f.calls {
		if action == "" || s.Action == action {
			out = append(out, s)
		}
	}
	return out
}

func writeXML(w http.ResponseWriter, action string, a answer) {
	w.Header().Set("Content-Type", "text/xml")
	if a.code != "" {
		w.WriteHeader(a.status)
		var escaped strings.Builder
		_ = xml.EscapeText(&escaped, []byte(a.message))
		fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error>"+
			"<RequestId>r</RequestId></ErrorResponse>", a.code, escaped.String())
		return
	}
	fmt.Fprintf(w, "<%[1]sResponse><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>", action, a.body)
}

func writeJSON(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	if a.code != "" {
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": a.code, "message": a.message})
		return
	}
	body := a.body
	if body == "" {
		body = "{}"
	}
	_, _ = io.WriteString(w, body)
}

// watch is a CloudWatch client: ListMetrics stands for a read, SetAlarmState for a write.
func watch(s *awsx.Session) *cloudwatch.Client {
	return cloudwatch.NewFromConfig(s.Config(), func(o *cloudwatch.Options) {
		o.Protocol = awsjson.New10(schemas.GraniteServiceVersion20100801)
	})
}

func read(ctx context.Context, s *awsx.Session) error {
	_, err := watch(s).ListMetrics(ctx, &cloudwatch.ListMetricsInput{})
	return err
}

func write(ctx context.Context, s *awsx.Session) error {
	_, err := watch(s).SetAlarmState(ctx, &cloudwatch.SetAlarmStateInput{
		AlarmName: aws.String("a"), StateReason: aws.String("because"), StateValue: "OK",
	})
	return err
}

func identity(ctx context.Context, s *awsx.Session) error {
	_, err := sts.NewFromConfig(s.Config()).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	return err
}

// recording keeps what a Recorder gets.
type recording struct {
	mu      sync.Mutex
	records []awsx.CallRecord
}

func (r *recording) Call(c awsx.CallRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, c)
}

func (r *recording) of(action string) []awsx.CallRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []awsx.CallRecord
	for _, c := range r.records {
		if c.Action == action {
			out = append(out, c)
		}
	}
	return out
}
