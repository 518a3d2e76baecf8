package moto

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/cloudtrail"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// owner is the account that moto takes any access key for.
const owner fleet.AccountID = "123456789012"

// trailSessions are the ways into moto, as its one account.
func trailSessions(t *testing.T, server *Server) (cloudtrail.Sessions, aws.Config) {
	t.Helper()
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.URL),
		Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "dummy", "")}
	edge, err := awsx.New(t.Context(), awsx.Options{Clock: clock.System(), Load: func(context.Context) (aws.Config, error) { return cfg, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := edge.Caller(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func(r fleet.Region) *awsx.Session {
		return edge.Session(fleet.Place{Partition: fleet.PartitionAWS, Account: owner, Region: r}, awsx.Role{})
	}, cfg
}

// A trail's bucket in an S3 that imdsctl did not write: pages of a thousand keys, folders, parts of a large object. (moto redirects no
// request to a bucket's region.)
func TestATrailInAnotherS3(t *testing.T) {
	server := Start(t)
	sessions, cfg := trailSessions(t, server)
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	bucket := aws.String("trail")
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: bucket, CreateBucketConfiguration: &types.CreateBucketConfiguration{
		LocationConstraint: types.BucketLocationConstraintEuWest1}}); err != nil {
		t.Fatal(err)
	}
	put := func(key string, body []byte) {
		t.Helper()
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Date(2026, 11, 15, 0, 0, 0, 0, time.UTC)
	const files = 1100
	for n := range files {
		at := begin.Add(time.Duration(n) * 5 * time.Minute)
		put("AWSLogs/111122223333/CloudTrail/eu-west-1/"+at.Format("2006/01/02")+"/111122223333_CloudTrail_eu-west-1_"+
			at.Format("20060102T1504Z")+fmt.Sprintf("_%016d.json.gz", n), logFile(t, at.Add(-time.Minute), 1))
	}
	put("AWSLogs/111122223333/Config/eu-west-1/x.json", []byte("no log of CloudTrail"))
	large := logText(begin, 60_000)
	if len(large) < 9<<20 {
		t.Fatalf("%d bytes are read in one part", len(large))
	}
	put("by-hand/large.json", []byte(large))
	read := func(address string, span cloudtrail.Span) *cloudtrail.Report {
		t.Helper()
		b, err := cloudtrail.OpenBucket(t.Context(), sessions, "us-east-1", address)
		if err != nil {
			t.Fatal(err)
		}
		report, err := cloudtrail.ReadFiles(t.Context(), b.Files(t.Context(), span), cloudtrail.Options{Span: span})
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Gaps) > 0 || report.SkippedTotal() > 0 {
			t.Fatalf("%s: gaps %v, skipped %v", address, report.Gaps, report.Skipped)
		}
		return report
	}
	if r := read("s3://trail", cloudtrail.Span{}); r.Files != files+1 || r.Delivered != files+60_000 || len(r.Days.Missing()) > 0 {
		t.Errorf("%d files, %d records, missing %v", r.Files, r.Delivered, r.Days.Missing())
	}
	day := cloudtrail.Span{From: begin.AddDate(0, 0, 1), To: begin.AddDate(0, 0, 2)}
	if r := read("s3://trail/AWSLogs/", day); r.Delivered != 288 || r.Files > 2*288 {
		t.Errorf("of one day %d files, %d records", r.Files, r.Delivered)
	}
}

func logText(at time.Time, records int) string {
	var list []string
	for n := range records {
		list = append(list, fmt.Sprintf(`{"eventID":"%d-%d","eventTime":%q,"userAgent":"aws-cli/1.16.1 %x","userIdentity":{"accountId":"111122223333",`+
			`"arn":"arn:aws:sts::111122223333:assumed-role/app/i-%08x","sessionContext":{"ec2RoleDelivery":"1.0"}}}`, at.Unix(), n,
			at.Format(time.RFC3339), uint32(n)*2654435761, n%100))
	}
	return `{"Records":[` + strings.Join(list, ",") + "]}"
}

func logFile(t *testing.T, at time.Time, records int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(logText(at, records))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Athena as moto plays it, which takes any statement and gives the rows it was told to: the calls, the waiting and the reading of rows.
func TestAthenaAsMotoPlaysIt(t *testing.T) {
	server := Start(t)
	sessions, _ := trailSessions(t, server)
	row := func(cells ...string) map[string]any {
		data := make([]map[string]string, len(cells))
		for i, c := range cells {
			data[i] = map[string]string{"VarCharValue": c}
		}
		return map[string]any{"Data": data}
	}
	body, err := json.Marshal(map[string]any{"results": []any{map[string]any{"rows": []any{
		row("day", "account", "arn", "principal", "role", "delivery", "agent", "calls", "first_call", "last_call"),
		row("2026-11-15", "111122223333", "arn:aws:sts::111122223333:assumed-role/app/i-0123456789abcdef0", "AROA:i-0123456789abcdef0", "app", "1.0",
			"[Boto3/1.9.2]", "42", "2026-11-15T01:00:00Z", "2026-11-15T23:00:00Z"),
		row("2026-11-15", "111122223333", "arn:aws:sts::111122223333:assumed-role/app/i-0123456789abcdef0", "", "app", "9.9", "x", "1",
			"2026-11-15T01:00:00Z", "2026-11-15T23:00:00Z"),
		row("2026-11-15", "", "", "", "", "1.0", "x", "1", "2026-11-15T01:00:00Z", "2026-11-15T23:00:00Z"),
		row("2026-11-15", "111122223333", "arn:aws:sts::111122223333:assumed-role/app/s", "", "app", "1.0", "x", "many", "never", ""),
	}, "column_info": []any{}}}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(server.URL+"/moto-api/static/athena/query-results", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // the status is enough
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("moto does not take results: %s", resp.Status)
	}
	day := time.Date(2026, 11, 15, 0, 0, 0, 0, time.UTC)
	var got []string
	answer, err := cloudtrail.NewAthena(sessions("us-east-1"), clock.System()).Ask(t.Context(), cloudtrail.Query{Database: "audit", Table: "logs",
		Output: "s3://results/", Span: cloudtrail.Span{From: day, To: day.AddDate(0, 0, 1)}},
		func(r cloudtrail.Record, calls int64, last time.Time) {
			got = append(got, fmt.Sprint(r.Account, r.Instance, r.Role, r.Delivery, r.Agent, calls, r.At.Hour(), last.Hour()))
		})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{fmt.Sprint("111122223333", "i-0123456789abcdef0", "app", 1, "Boto3/1.9.2", 42, 1, 23)}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if answer.Rows != 4 || answer.SkippedTotal() != 3 {
		t.Errorf("%+v", answer)
	}
}
