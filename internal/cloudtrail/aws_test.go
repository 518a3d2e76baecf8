package cloudtrail_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/cloudtrail"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/product"
)

// The world: an organization's trail in the account of logs, in another region than the caller's.
const (
	logs   = "444455556666"
	shop   = "111122223333"
	bank   = "222233334444"
	caller = "999988887777"
)

var start = time.Date(2026, 11, 20, 0, 30, 0, 0, time.UTC)

const seed = `{
"organization": {"id": "o-exampleorg", "management_account": "999988887777"},
"services": {
  "workload": {"programs": [
    {"name": "billing", "user_agent": "Boto3/1.9.2 Python/2.7.18 Botocore/1.12.2", "speaks": "v1-only", "every": "1h",
     "anchor": "2026-11-01T00:20:00Z", "api_calls": ["s3:GetObject", "sqs:ListQueues"], "where": {"tags": ["app=billing"]}},
    {"name": "modern", "user_agent": "aws-sdk-go-v2/1.41.0 lang/go#1.26", "speaks": "v2-then-v1", "every": "2h",
     "anchor": "2026-11-01T00:40:00Z", "api_calls": ["ec2:DescribeTags"], "where": {"tags": ["app=billing", "app=shop"]}}]},
  "cloudtrail": {"trails": [{"name": "org", "bucket": "org-trail", "prefix": "audit", "organization": "o-exampleorg",
    "data_events": true, "history": "96h", "without": ["2026-11-17"]}]}},
"accounts": [
  {"id": "999988887777", "global": {"athena": {"region": "eu-west-1", "workgroups": [{"name": "audit", "output": "s3://results/"}],
    "tables": [{"database": "audit", "name": "logs", "trail": "org", "partition": "timestamp"}]}}},
  {"id": "444455556666", "global": {"s3": {"buckets": [{"name": "org-trail", "region": "us-west-2", "readers": ["999988887777"],
     "objects": [
      {"key": "audit/AWSLogs/o-exampleorg/111122223333/CloudTrail-Digest/eu-west-1/2026/11/18/x.json.gz", "text": "{}"},
      {"key": "audit/AWSLogs/o-exampleorg/111122223333/Config/eu-west-1/2026/11/18/x.json.gz", "text": "not CloudTrail's"},
      {"key": "audit/AWSLogs/o-exampleorg/111122223333/CloudTrail/eu-west-1/2026/1/x.txt", "text": "a note"}]},
     {"name": "closed", "region": "eu-west-1"}]}}},
  {"id": "111122223333", "regions": {"eu-west-1": {"ec2": {"images": [{"id": "ami-0123456789abcdef0"}], "instances": [
     {"id": "i-0123456789abcdef0", "image": "ami-0123456789abcdef0", "tags": {"app": "billing"},
      "profile_arn": "arn:aws:iam::111122223333:instance-profile/billing"},
     {"id": "i-0123456789abcdef1", "image": "ami-0123456789abcdef0", "tags": {"app": "billing"}},
     {"id": "i-0123456789abcdef2", "image": "ami-0123456789abcdef0", "tags": {"app": "shop"},
      "profile_arn": "arn:aws:iam::111122223333:instance-profile/shop"}]}}}},
  {"id": "222233334444", "regions": {"eu-central-1": {"ec2": {"images": [{"id": "ami-0123456789abcdef1"}], "instances": [
     {"id": "i-0123456789abcdef3", "image": "ami-0123456789abcdef1", "tags": {"app": "billing"}, "options": {"tokens": "required"},
      "profile_arn": "arn:aws:iam::222233334444:instance-profile/billing"}]}}}}
]}`

type site struct {
	*awssim.World
	clock clock.Clock
	edge  *awsx.Edge
}

func newSite(t testing.TB, o awssim.Options) *site {
	t.Helper()
	s := &site{clock: clock.NewLeaping(t.Context(), start, 0)}
	o.Clock, o.Seed = s.clock, 3
	s.World = awssim.New(o)
	if err := s.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	edge, err := awsx.New(t.Context(), awsx.Options{
		Clock: s.clock, MaxAttempts: 4, Jitter: func() float64 { return 0.5 },
		Load: func(context.Context) (aws.Config, error) {
			return aws.Config{Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: s.Client(),
				Credentials: credentials.NewStaticCredentialsProvider(caller, "secret", "")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := edge.Caller(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.edge = edge
	return s
}

func (s *site) sessions(account fleet.AccountID) cloudtrail.Sessions {
	return func(r fleet.Region) *awsx.Session {
		return s.edge.Session(fleet.Place{Partition: fleet.PartitionAWS, Account: account, Region: r}, awsx.Role{})
	}
}

func (s *site) bucket(t testing.TB, address string) *cloudtrail.Bucket {
	t.Helper()
	b, err := cloudtrail.OpenBucket(t.Context(), s.sessions(caller), "eu-west-1", address)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *site) report(t testing.TB, address string, span cloudtrail.Span) *cloudtrail.Report {
	t.Helper()
	report, err := cloudtrail.ReadFiles(t.Context(), s.bucket(t, address).Files(t.Context(), span), cloudtrail.Options{Span: span, Parse: speaks})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func speaks(agent string) (product.ID, string) {
	if said := product.Default().ParseAgent(agent); len(said) > 0 {
		return said[0].Product, said[0].Version
	}
	return "", ""
}

// findings are a tally's, in words.
func findings(t *cloudtrail.Tally) []string {
	var out []string
	for f := range t.Findings(evidence.SourceCloudTrail, "x") {
		out = append(out, fmt.Sprintf("%s %s/%s %s %d %s %s %s", f.First.Format("01-02 15:04:05"), f.Subject.Account, f.Subject.ID, f.What,
			f.Count, f.Product, f.Version, f.Last.Format("15:04:05")))
	}
	return out
}

// of are the findings of one day.
func of(list []string, day string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(f string) bool { return !strings.HasPrefix(f, day) })
}

// What is expected follows from the seed alone: billing calls twice an hour and speaks v1 where that is allowed; modern calls every
// two hours by v2; the instance without a profile calls nobody; where tokens are required billing gets no credentials.
var wholeDay = []string{
	"11-18 00:20:01 111122223333/i-0123456789abcdef0 v1-credentials 48 boto3 1.9.2 23:20:02",
	"11-18 00:40:01 111122223333/i-0123456789abcdef0 v2-credentials 12 aws-sdk-go-v2 1.41.0 22:40:01",
	"11-18 00:40:01 111122223333/i-0123456789abcdef2 v2-credentials 12 aws-sdk-go-v2 1.41.0 22:40:01",
	"11-18 00:40:01 222233334444/i-0123456789abcdef3 v2-credentials 12 aws-sdk-go-v2 1.41.0 22:40:01",
}

func TestABucketInAnotherRegionIsRead(t *testing.T) {
	s := newSite(t, awssim.Options{})
	report := s.report(t, "s3://org-trail/audit/", cloudtrail.Span{})
	if len(report.Gaps) > 0 || report.SkippedTotal() > 0 || report.Unnamed > 0 {
		t.Fatalf("%d gaps, %+v first; skipped %v, %d files without a name", len(report.Gaps), report.Gaps[:min(1, len(report.Gaps))], report.Skipped, report.Unnamed)
	}
	all := findings(report.Tally)
	if got := of(all, "11-18"); !slices.Equal(got, wholeDay) {
		t.Errorf("of 18 November:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wholeDay, "\n"))
	}
	if got := of(all, "11-17"); len(got) > 0 {
		t.Errorf("of the day without files: %v", got)
	}
	want := []cloudtrail.Missing{
		{Place: cloudtrail.Place{Account: shop, Region: "eu-west-1"}, Whole: true},
		{Place: cloudtrail.Place{Account: bank, Region: "eu-central-1"}, Whole: true},
	}
	for i := range want {
		want[i].From = time.Date(2026, 11, 17, 0, 0, 0, 0, time.UTC)
		want[i].To = want[i].From
	}
	missing := slices.DeleteFunc(report.Days.Missing(), func(m cloudtrail.Missing) bool { return m.Account != shop && m.Account != bank })
	if !reflect.DeepEqual(missing, want) {
		t.Errorf("missing %+v\nwant %+v", missing, want)
	}
	sum := report.Tally.Summary()
	if sum.InstancesV1 != 1 || sum.Instances != 3 || len(sum.Callers) != 1 || !slices.Equal(sum.Callers[0].Roles, []string{"billing"}) ||
		sum.Software[0].Product != "boto3" || sum.Software[0].Version != "1.9.2" || sum.Software[0].Instances != 1 {
		t.Errorf("summary %+v", sum)
	}
	for _, c := range s.Calls() {
		if slices.ContainsFunc(c.Params, func(p string) bool { return strings.Contains(p, "Config/") || strings.Contains(p, "Digest/") }) {
			t.Errorf("a folder that holds no logs of CloudTrail was entered: %v", c.Params)
		}
	}
}

func TestDaysAreNotReadForNothing(t *testing.T) {
	s := newSite(t, awssim.Options{})
	span := cloudtrail.Span{From: time.Date(2026, 11, 18, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 19, 0, 0, 0, 0, time.UTC)}
	for _, address := range []string{"s3://org-trail", "s3://org-trail/audit/AWSLogs/o-exampleorg/", "s3://org-trail/audit/AWSLogs/o-exampleorg"} {
		report := s.report(t, address, span)
		if got := findings(report.Tally); !slices.Equal(got, wholeDay) {
			t.Errorf("%s: %s", address, strings.Join(got, "\n"))
		}
		// One day of 144 files in each of three places (the caller's own is one), and as many of the next for what comes late.
		if report.Files > 3*(144+144) {
			t.Errorf("%s: %d files were read", address, report.Files)
		}
	}
	below := s.report(t, "s3://org-trail/audit/AWSLogs/o-exampleorg/111122223333/CloudTrail/eu-west-1/2026/11/18/", cloudtrail.Span{})
	if got := of(findings(below.Tally), "11-18"); len(got) != 3 {
		t.Errorf("below a day: %v", got)
	}
}

func TestWhatMayNotBeReadIsAGap(t *testing.T) {
	s := newSite(t, awssim.Options{})
	_, err := cloudtrail.OpenBucket(t.Context(), s.sessions(caller), "eu-west-1", "s3://nowhere")
	if fleet.ClassOf(err) != fleet.ErrGone {
		t.Errorf("a bucket that is not there: %v", err)
	}
	closed := s.report(t, "s3://closed/AWSLogs/", cloudtrail.Span{})
	if len(closed.Gaps) != 1 || !strings.Contains(closed.Gaps[0].Reason, "AccessDenied") {
		t.Errorf("a closed bucket: %+v", closed.Gaps)
	}
	for name, fault := range map[string]core.Fault{
		"a denied list":   {Service: "s3", Action: "ListObjectsV2", Param: "prefix=*222233334444/*", Deny: true},
		"a denied object": {Service: "s3", Action: "GetObject", Param: "Key=*20261118T1215Z*", Deny: true},
		"a broken list":   {Service: "s3", Action: "ListObjectsV2", Param: "prefix=*222233334444/*", Status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, awssim.Options{})
			if _, err := s.AddFault(fault); err != nil {
				t.Fatal(err)
			}
			report := s.report(t, "s3://org-trail/audit/", cloudtrail.Span{})
			if len(report.Gaps) == 0 {
				t.Error("nothing is said to be missing")
			}
			if got := of(findings(report.Tally), "11-19"); len(got) < 3 {
				t.Errorf("what could be read is lost as well: %v", got)
			}
		})
	}
	for name, fault := range map[string]core.Fault{
		"a connection that drops": {Service: "s3", DropBefore: true, Count: 3, Nth: 5},
		"a throttle":              {Service: "s3", Throttle: true, Count: 3, Nth: 5},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, awssim.Options{})
			if _, err := s.AddFault(fault); err != nil {
				t.Fatal(err)
			}
			report := s.report(t, "s3://org-trail/audit/", cloudtrail.Span{})
			if got := of(findings(report.Tally), "11-18"); len(report.Gaps) > 0 || !slices.Equal(got, wholeDay) {
				t.Errorf("%d gaps\n%v", len(report.Gaps), got)
			}
		})
	}
}

// What Athena counts is what the files hold.
func TestAthenaAgreesWithTheFiles(t *testing.T) {
	s := newSite(t, awssim.Options{})
	span := cloudtrail.Span{From: time.Date(2026, 11, 18, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)}
	files := findings(s.report(t, "s3://org-trail/audit/", span).Tally)
	read := map[string]int64{}
	for _, partition := range []string{"", "timestamp"} {
		q := cloudtrail.Query{Database: "audit", Table: "logs", Workgroup: "audit", Partition: partition, Span: span}
		tally := cloudtrail.NewTally(speaks, cloudtrail.Bounds{})
		answer, err := cloudtrail.NewAthena(s.sessions(caller)("eu-west-1"), s.clock).Ask(t.Context(), q,
			func(r cloudtrail.Record, n int64, last time.Time) { tally.AddMany(r, n, last) })
		if err != nil {
			t.Fatal(err)
		}
		if got := findings(tally); !slices.Equal(got, files) {
			t.Errorf("Athena:\n%s\nfiles:\n%s", strings.Join(got, "\n"), strings.Join(files, "\n"))
		}
		if answer.Scanned <= 0 || answer.Dollars != 5.0/1e5 {
			t.Errorf("%d bytes, $%v: ten megabytes are the least that is charged", answer.Scanned, answer.Dollars)
		}
		read[partition] = answer.Scanned
	}
	if read["timestamp"] >= read[""] {
		t.Errorf("with the column of days %d bytes were read, without it %d", read["timestamp"], read[""])
	}
	for name, q := range map[string]cloudtrail.Query{
		"TABLE_NOT_FOUND":    {Database: "audit", Table: "nothing", Workgroup: "audit", Span: span},
		"COLUMN_NOT_FOUND":   {Database: "audit", Table: "logs", Workgroup: "audit", Partition: "dt", Span: span},
		"No output location": {Database: "audit", Table: "logs", Span: span},
		"is not found":       {Database: "audit", Table: "logs", Workgroup: "nobody", Span: span},
		"is no table":        {Database: `audit"; DROP`, Table: "logs", Span: span},
		"is no column":       {Database: "audit", Table: "logs", Partition: `x" OR 1`, Span: span},
		"is no place":        {Database: "audit", Table: "logs", Output: "s3://b/'", Span: span},
		"a first and a last": {Database: "audit", Table: "logs"},
		"is no workgroup":    {Database: "audit", Table: "logs", Workgroup: "a b", Span: span},
	} {
		_, err := cloudtrail.NewAthena(s.sessions(caller)("eu-west-1"), s.clock).Ask(t.Context(), q,
			func(cloudtrail.Record, int64, time.Time) { t.Error("a row") })
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v, want %q", q, err, name)
		}
	}
}

// LookupEvents shows what is true, newest first, and not all.
func TestLookupEventsIsASample(t *testing.T) {
	s := newSite(t, awssim.Options{})
	session := s.edge.Session(fleet.Place{Partition: fleet.PartitionAWS, Account: caller, Region: "eu-west-1"}, awsx.Role{})
	empty, err := cloudtrail.LookupEvents(t.Context(), session, cloudtrail.Lookup{Most: 10}, func(cloudtrail.Record) {
		t.Error("the caller's account has no instances")
	})
	if err != nil || !empty.More || empty.Records < 10 {
		t.Errorf("%+v, %v", empty, err)
	}
	// The shop's administrator.
	edge, err := awsx.New(t.Context(), awsx.Options{Clock: s.clock, Load: func(context.Context) (aws.Config, error) {
		return aws.Config{Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: s.Client(),
			Credentials: credentials.NewStaticCredentialsProvider(shop, "secret", "")}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := edge.Caller(t.Context()); err != nil {
		t.Fatal(err)
	}
	session = edge.Session(fleet.Place{Partition: fleet.PartitionAWS, Account: shop, Region: "eu-west-1"}, awsx.Role{})
	before := s.clock.Now()
	var seen []cloudtrail.Record
	looked, err := cloudtrail.LookupEvents(t.Context(), session, cloudtrail.Lookup{Most: 300,
		Span: cloudtrail.Span{To: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)}}, func(r cloudtrail.Record) { seen = append(seen, r) })
	if err != nil || !looked.More || looked.Records != 300 || len(seen) == 0 || len(seen) >= 300 {
		t.Fatalf("%+v, %d delivered, %v", looked, len(seen), err)
	}
	if took := s.clock.Now().Sub(before); took < 2*time.Second {
		t.Errorf("six calls of which two a second are allowed took %s", took)
	}
	for i, r := range seen {
		if r.Agent == "" || r.Instance == "" || i > 0 && r.At.After(seen[i-1].At) {
			t.Errorf("event %d: %+v", i, r)
		}
		if strings.HasPrefix(r.Agent, "Boto3") != (r.Delivery == cloudtrail.V1) {
			t.Errorf("event %d: %+v", i, r)
		}
	}
	var one []cloudtrail.Record
	if _, err := cloudtrail.LookupEvents(t.Context(), session, cloudtrail.Lookup{Instance: "i-0123456789abcdef2", Most: 50},
		func(r cloudtrail.Record) { one = append(one, r) }); err != nil || len(one) == 0 {
		t.Fatal(len(one), err)
	}
	for _, r := range one {
		if r.Instance != "i-0123456789abcdef2" {
			t.Errorf("another instance's: %+v", r)
		}
	}
}

// A folder is read as a bucket is, each file once, whatever else lies there.
func TestAFolder(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string, zip bool) {
		t.Helper()
		path := filepath.Join(root, name)
		body := []byte(text)
		if zip {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			if _, err := z.Write(body); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			body = b.Bytes()
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	record := func(instance, at string) string {
		b, err := json.Marshal(map[string]any{"eventID": instance + at, "eventTime": at, "userAgent": "aws-cli/1.16.1", "userIdentity": map[string]any{
			"accountId": shop, "arn": "arn:aws:sts::" + shop + ":assumed-role/app/" + instance,
			"sessionContext": map[string]any{"ec2RoleDelivery": "1.0"}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	const name = "%s/111122223333_CloudTrail_eu-west-1_%s_Mu0KsOhtH1ar15ZZ.json.gz"
	put(fmt.Sprintf(name, "a", "20261118T0210Z"), `{"Records":[`+record("i-00000001", "2026-11-18T02:00:00Z")+`]}`, true)
	put(fmt.Sprintf(name, "copy", "20261118T0210Z"), `{"Records":[`+record("i-00000001", "2026-11-18T02:00:00Z")+`]}`, true)
	put(fmt.Sprintf(name, "a", "20261120T0210Z"), `{"Records":[`+record("i-00000002", "2026-11-20T02:00:00Z")+`]}`, true)
	put("b/by-hand.jsonl", record("i-00000003", "2026-11-18T02:00:00Z")+"\n", false)
	put("b/the-same-again.jsonl", record("i-00000003", "2026-11-18T02:00:00Z")+"\n", false)
	put("b/README.md", "no log", false)
	put("b/not-really.json.gz", "plain", false)
	put("b/cut.json.gz", "\x1f\x8b", false)
	if err := os.Mkdir(filepath.Join(root, "shut"), 0o000); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(root, "shut"), 0o755) })
	known := map[string]bool{}
	run := func(span cloudtrail.Span) *cloudtrail.Report {
		t.Helper()
		report, err := cloudtrail.ReadFiles(t.Context(), cloudtrail.Folder(root), cloudtrail.Options{Span: span,
			Known: func(_ context.Context, digest string) (bool, error) { return known[digest], nil }})
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	report := run(cloudtrail.Span{})
	if report.Delivered != 3 || report.Files != 5 || report.Known != 2 || report.Unnamed != 3 || report.SkippedTotal() != 1 {
		t.Errorf("%+v", report)
	}
	gaps := 1
	if os.Geteuid() != 0 { // root may look into any folder
		gaps++
	}
	if len(report.Gaps) != gaps {
		t.Errorf("gaps %v", report.Gaps)
	}
	for _, digest := range report.Taken {
		known[digest] = true
	}
	if again := run(cloudtrail.Span{}); again.Files != 0 || again.Records != 0 || again.Known != 7 {
		t.Errorf("the second time: %+v", again)
	}
	clear(known)
	only := run(cloudtrail.Span{From: time.Date(2026, 11, 19, 0, 0, 0, 0, time.UTC)})
	if only.Pruned != 2 || only.Delivered != 1 || only.Outside != 1 {
		t.Errorf("since the 19th: %+v", only)
	}
	if missing := report.Days.Missing(); len(missing) != 1 || missing[0].From.Day() != 19 || !missing[0].Whole {
		t.Errorf("missing %+v", missing)
	}
	none, err := cloudtrail.ReadFiles(t.Context(), cloudtrail.Folder(filepath.Join(root, "nothing")), cloudtrail.Options{})
	if err != nil || len(none.Gaps) != 1 {
		t.Errorf("%+v, %v", none, err)
	}
}

// An object larger than one part is read in parts, of one version.
func TestALargeObjectIsReadInParts(t *testing.T) {
	s := newSite(t, awssim.Options{})
	var text strings.Builder
	n := 0
	for text.Len() < 20<<20 {
		fmt.Fprintf(&text, `{"eventID":"%d","userIdentity":{"accountId":"111122223333","arn":"arn:aws:sts::111122223333:assumed-role/app/i-%08x",`+
			`"sessionContext":{"ec2RoleDelivery":"1.0"}},"eventTime":"2026-11-18T02:00:00Z","filler":"%s"}`+"\n", n, n%500, strings.Repeat("x", 4000))
		n++
	}
	section, err := json.Marshal(map[string]any{"buckets": []any{map[string]any{"name": "large", "region": "eu-west-1", "objects": []any{
		map[string]any{"key": "one.jsonl", "text": text.String()}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.LoadSeed(&core.Seed{Accounts: []core.AccountSeed{{ID: caller, Global: map[string]json.RawMessage{"s3": section}}}}); err != nil {
		t.Fatal(err)
	}
	report := s.report(t, "s3://large", cloudtrail.Span{})
	if report.Delivered != int64(n) || len(report.Gaps) > 0 || report.Bytes != int64(text.Len()) {
		t.Errorf("%d of %d records, %d of %d bytes, gaps %v", report.Delivered, n, report.Bytes, text.Len(), report.Gaps)
	}
	parts := 0
	for _, c := range s.Calls() {
		if c.Action == "GetObject" {
			parts++
		}
	}
	if parts != 3 {
		t.Errorf("%d parts", parts)
	}
}
