package cloudtrail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Sessions gives the way to a region, as the caller or in a role.
type Sessions func(fleet.Region) *awsx.Session

// Bucket reads the log files below a prefix of an S3 bucket, in the bucket's own region. It is safe for several goroutines.
type Bucket struct {
	client       *s3.Client
	name, prefix string
}

// Address is "s3://bucket/prefix" in its parts.
func Address(address string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(address, "s3://")
	bucket, prefix, _ = strings.Cut(rest, "/")
	if !ok || !bucketPattern.MatchString(bucket) {
		return "", "", fmt.Errorf("%q is no address of a bucket: write s3://bucket/prefix", address)
	}
	return bucket, prefix, nil
}

// bucketPattern is of the names that a bucket may have, and of access points' aliases ("Bucket naming rules", S3 User Guide).
var bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// OpenBucket finds out where a bucket is, beginning in the region given, and opens it there. The error is a *fleet.CallError.
func OpenBucket(ctx context.Context, sessions Sessions, region fleet.Region, address string) (*Bucket, error) {
	name, prefix, err := Address(address)
	if err != nil {
		return nil, err
	}
	for range 3 {
		client, said := newClient(sessions(region))
		_, err = client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name})
		found := fleet.Region(said.region())
		if err == nil || found == region && fleet.ClassOf(err) != fleet.ErrThrottled {
			break
		}
		if found == "" || found == region {
			return nil, fmt.Errorf("find bucket %s: %w", name, awsx.Plain(err))
		}
		region = found
	}
	if err != nil { // the bucket may not be looked at, and that its keys may be listed is found out by listing them
		if _, ok := errors.AsType[*fleet.CallError](err); !ok || ctx.Err() != nil {
			return nil, fmt.Errorf("find bucket %s: %w", name, awsx.Plain(err))
		}
	}
	client, _ := newClient(sessions(region))
	return &Bucket{client: client, name: name, prefix: prefix}, nil
}

// newClient makes a client whose answers are read to their end within their attempt, so that one that breaks off is asked for again.
// Stand-ins at an address of their own are spoken to by path.
func newClient(session *awsx.Session) (*s3.Client, *whole) {
	cfg := session.Config()
	w := &whole{next: cfg.HTTPClient}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.HTTPClient = w
		o.UsePathStyle = cfg.BaseEndpoint != nil
		o.DisableLogOutputChecksumValidationSkipped = true
	}), w
}

// part is how much of an object is read at a time, in bytes.
const part = 8 << 20

// whole reads answers to their end, and remembers the region that S3 names.
type whole struct {
	next aws.HTTPClient
	said atomic.Pointer[string]
}

// Do implements aws.HTTPClient.
func (w *whole) Do(r *http.Request) (*http.Response, error) {
	resp, err := w.next.Do(r)
	if err != nil {
		return resp, err
	}
	if region := resp.Header.Get("X-Amz-Bucket-Region"); region != "" {
		w.said.Store(&region)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, part+(1<<20)))
	if closing := resp.Body.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func (w *whole) region() string {
	if p := w.said.Load(); p != nil {
		return *p
	}
	return ""
}

// Files gives the log files of the bucket in the order of their keys. Under AWSLogs only CloudTrail's own folders are entered, and in
// them only the days of the span. What may not be listed is given as an error, and the rest goes on.
func (b *Bucket) Files(ctx context.Context, span Span) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) { b.walk(ctx, b.prefix, span, 0, yield) }
}

var (
	// regionFolder ends where the years begin: AWSLogs/[o-…/]ACCOUNT/CloudTrail/REGION/ ("Finding your CloudTrail log files").
	regionFolder = regexp.MustCompile(`(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?\d{12}/CloudTrail/[a-z0-9-]+/$`)
	// within is anything below a region's folder, or below the folder of another of AWS's logs.
	within        = regexp.MustCompile(`(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?\d{12}/CloudTrail/[a-z0-9-]+/.`)
	accountFolder = regexp.MustCompile(`(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?\d{12}/([^/]+)/`)
	awsLogs       = regexp.MustCompile(`(?:^|/)AWSLogs(?:/|$)`)
)

// deepest is how many folders are looked into one by one before AWSLogs; what lies deeper is listed as it comes.
const deepest = 4

// walk goes through folders down to those of the days. It tells whether to go on.
func (b *Bucket) walk(ctx context.Context, prefix string, span Span, depth int, yield func(File, error) bool) bool {
	if m := accountFolder.FindStringSubmatch(prefix); m != nil && m[1] != "CloudTrail" {
		return true
	}
	in := &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix}
	flat := within.MatchString(prefix) || depth > deepest && !awsLogs.MatchString(prefix)
	if regionFolder.MatchString(prefix) {
		flat = true
		if !span.From.IsZero() {
			in.StartAfter = aws.String(prefix + span.From.UTC().Format("2006/01/02"))
		}
	}
	if !flat {
		in.Delimiter = aws.String("/")
	}
	var below []string
	for {
		out, err := b.client.ListObjectsV2(ctx, in)
		if err != nil {
			return yield(File{Name: "s3://" + b.name + "/" + prefix}, fmt.Errorf("list the objects: %w", awsx.Plain(err))) && ctx.Err() == nil
		}
		for _, o := range out.Contents {
			if key := aws.ToString(o.Key); flat && regionFolder.MatchString(prefix) && after(key[len(prefix):], span) {
				return true
			}
			if f := b.file(o); isLog(f.Name) && !yield(f, nil) {
				return false
			}
		}
		for _, p := range out.CommonPrefixes {
			below = append(below, aws.ToString(p.Prefix))
		}
		if in.ContinuationToken = out.NextContinuationToken; aws.ToString(in.ContinuationToken) == "" {
			break
		}
	}
	for _, p := range below {
		if p != prefix && !b.walk(ctx, p, span, depth+1, yield) {
			return false
		}
	}
	return true
}

// after tells whether a key behind the folder of a region is of a day behind the span, as all after it are.
func after(rest string, span Span) bool {
	if span.To.IsZero() || len(rest) < len("2006/01/02") {
		return false
	}
	day, err := time.Parse("2006/01/02", rest[:len("2006/01/02")])
	return err == nil && !day.Before(span.To.Add(late))
}

func (b *Bucket) file(o types.Object) File {
	key, etag, size := aws.ToString(o.Key), aws.ToString(o.ETag), aws.ToInt64(o.Size)
	address := "s3://" + b.name + "/" + key
	return File{
		Name: address, Size: size,
		Identity: func(context.Context) (string, error) { return address + " " + etag, nil },
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			r := &object{ctx: ctx, bucket: b, key: key, etag: etag, size: size}
			if err := r.fetch(); err != nil {
				return nil, err
			}
			return r, nil
		},
	}
}

// object is an object as it is read, part by part.
type object struct {
	ctx       context.Context
	bucket    *Bucket
	key, etag string
	size, at  int64 // at is where the next part begins
	part      *bytes.Reader
}

func (o *object) fetch() error {
	in := &s3.GetObjectInput{Bucket: &o.bucket.name, Key: &o.key}
	if o.size > part {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", o.at, min(o.at+part, o.size)-1))
	}
	if o.etag != "" {
		in.IfMatch = &o.etag // an object that is replaced meanwhile would be put together of two
	}
	out, err := o.bucket.client.GetObject(o.ctx, in)
	if err != nil {
		return fmt.Errorf("read the object: %w", awsx.Plain(err))
	}
	body, err := io.ReadAll(out.Body)
	if closing := out.Body.Close(); err == nil {
		err = closing
	}
	if err == nil && len(body) == 0 && o.at < o.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read the object: %w", err)
	}
	o.part, o.at = bytes.NewReader(body), o.at+int64(len(body))
	return nil
}

func (o *object) Read(p []byte) (int, error) {
	for o.part.Len() == 0 {
		if o.at >= o.size {
			return 0, io.EOF
		}
		if err := o.fetch(); err != nil {
			return 0, err
		}
	}
	return o.part.Read(p)
}

func (o *object) Close() error { return nil }
