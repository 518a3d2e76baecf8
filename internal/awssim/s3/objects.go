package s3

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// mostKeys is the most that a page of a list holds.
const mostKeys = 1000

// listing is ListObjectsV2's answer (Amazon S3 API reference, ListObjectsV2).
type listing struct {
	XMLName   xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name      string
	Prefix    string
	Delimiter string `xml:",omitempty"`
	// StartAfter and the tokens are those of the request, and of the next one.
	StartAfter            string `xml:",omitempty"`
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	KeyCount              int
	MaxKeys               int
	IsTruncated           bool
	Contents              []content
	CommonPrefixes        []commonPrefix

	last string // the last key that the page is about
}

type content struct {
	Key          string
	LastModified string
	ETag         string
	Size         int
	StorageClass string
}

type commonPrefix struct{ Prefix string }

func invalidArgument(format string, args ...any) error {
	return wire.Errorf("InvalidArgument", format, args...)
}

// listObjects lists a page. What rolls up under a common prefix counts as one key, and the next page goes on behind all of it.
func listObjects(c *core.Call) error {
	for _, name := range c.In.Names() {
		switch name {
		case "Bucket", "list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after", "encoding-type", "fetch-owner",
			"X-Amz-Expected-Bucket-Owner":
		default:
			return invalidArgument("The simulator does not know the parameter %s of ListObjectsV2.", name)
		}
	}
	out := listing{Name: c.In.Str("Bucket"), Prefix: c.In.Str("prefix"), Delimiter: c.In.Str("delimiter"),
		StartAfter: c.In.Str("start-after"), ContinuationToken: c.In.Str("continuation-token"), EncodingType: c.In.Str("encoding-type"),
		MaxKeys: mostKeys}
	if n, set, err := c.In.Int("max-keys"); err != nil || n < 0 {
		return invalidArgument("Argument maxKeys must be an integer between 0 and 2147483647")
	} else if set {
		out.MaxKeys = int(min(n, mostKeys))
	}
	if out.EncodingType != "" && out.EncodingType != "url" {
		return invalidArgument("Invalid Encoding Method specified in Request")
	}
	after := out.StartAfter
	if out.ContinuationToken != "" {
		b, err := base64.RawURLEncoding.DecodeString(out.ContinuationToken)
		if err != nil || len(b) == 0 {
			return invalidArgument("The continuation token provided is incorrect")
		}
		after = string(b)
	}
	b, provided, err := find(c)
	if err != nil {
		return err
	}
	out.page(b, provided, after, c.Now)
	out.encode()
	body, err := xml.Marshal(out)
	if err != nil {
		return fmt.Errorf("write the list of %s: %w", out.Name, err)
	}
	c.Whole.Header.Set("Content-Type", "application/xml")
	c.Whole.Body = append([]byte(xml.Header), body...)
	return nil
}

// page fills in what comes after a key.
func (l *listing) page(b *bucket, provided []Objects, after string, now time.Time) {
	for o := range all(b, provided, l.Prefix, after, now) {
		rolled := ""
		if l.Delimiter != "" {
			if i := strings.Index(o.Key[len(l.Prefix):], l.Delimiter); i >= 0 {
				rolled = o.Key[:len(l.Prefix)+i+len(l.Delimiter)]
			}
		}
		if rolled != "" && (len(l.CommonPrefixes) > 0 && l.CommonPrefixes[len(l.CommonPrefixes)-1].Prefix == rolled ||
			strings.HasPrefix(after, rolled)) {
			l.last = o.Key
			continue
		}
		if l.KeyCount == l.MaxKeys {
			l.IsTruncated = l.MaxKeys > 0
			break
		}
		l.KeyCount++
		l.last = o.Key
		if rolled != "" {
			l.CommonPrefixes = append(l.CommonPrefixes, commonPrefix{rolled})
			continue
		}
		l.Contents = append(l.Contents, content{o.Key, o.Modified.UTC().Format("2006-01-02T15:04:05.000Z"), o.ETag(), len(o.Body), "STANDARD"})
	}
	if l.IsTruncated {
		l.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(l.last))
	}
}

// encode writes keys as addresses have them, where that was asked for.
func (l *listing) encode() {
	if l.EncodingType == "" {
		return
	}
	escape := func(s *string) { *s = strings.ReplaceAll(url.QueryEscape(*s), "%2F", "/") }
	escape(&l.Prefix)
	escape(&l.Delimiter)
	escape(&l.StartAfter)
	for i := range l.Contents {
		escape(&l.Contents[i].Key)
	}
	for i := range l.CommonPrefixes {
		escape(&l.CommonPrefixes[i].Prefix)
	}
}

// all merges what the bucket holds with what is made when asked for, by key.
func all(b *bucket, provided []Objects, prefix, after string, now time.Time) iter.Seq[*Object] {
	sources := []iter.Seq[*Object]{func(yield func(*Object) bool) {
		for _, o := range b.objects {
			if strings.HasPrefix(o.Key, prefix) && o.Key > after && !yield(o) {
				return
			}
		}
	}}
	for _, p := range provided {
		sources = append(sources, p.List(prefix, after, now))
	}
	return func(yield func(*Object) bool) {
		heads, nexts := make([]*Object, len(sources)), make([]func() (*Object, bool), len(sources))
		for i, s := range sources {
			next, stop := iter.Pull(s)
			defer stop()
			nexts[i] = next
			heads[i], _ = next()
		}
		for {
			least := -1
			for i, h := range heads {
				if h != nil && (least < 0 || h.Key < heads[least].Key) {
					least = i
				}
			}
			if least < 0 || !yield(heads[least]) {
				return
			}
			heads[least], _ = nexts[least]()
		}
	}
}

// getObject gives an object, or a range of it.
func getObject(c *core.Call) error {
	for _, name := range c.In.Names() {
		switch name {
		case "Bucket", "Key", "Range", "If-Match", "If-None-Match", "X-Amz-Expected-Bucket-Owner":
		default:
			return invalidArgument("The simulator does not know the parameter %s of GetObject.", name)
		}
	}
	b, provided, err := find(c)
	if err != nil {
		return err
	}
	o := get(b, provided, c.In.Str("Key"), c.Now)
	if o == nil {
		return &wire.Error{Code: "NoSuchKey", Message: "The specified key does not exist.", Status: http.StatusNotFound}
	}
	h := c.Whole.Header
	h.Set("ETag", o.ETag())
	h.Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "binary/octet-stream")
	if o.Type != "" {
		h.Set("Content-Type", o.Type)
	}
	if o.Encoding != "" {
		h.Set("Content-Encoding", o.Encoding)
	}
	if want := c.In.Str("If-Match"); want != "" && strings.Trim(want, `"`) != strings.Trim(o.ETag(), `"`) {
		return &wire.Error{Code: "PreconditionFailed", Status: http.StatusPreconditionFailed,
			Message: "At least one of the pre-conditions you specified did not hold"}
	}
	if want := c.In.Str("If-None-Match"); want != "" && strings.Trim(want, `"`) == strings.Trim(o.ETag(), `"`) {
		return &wire.Error{Code: "NotModified", Status: http.StatusNotModified}
	}
	c.Whole.Body = o.Body
	return ranged(c, o)
}

// ranged cuts out what a header Range asks for: "bytes=0-99", "bytes=100-" or "bytes=-10".
func ranged(c *core.Call, o *Object) error {
	text, ok := strings.CutPrefix(c.In.Str("Range"), "bytes=")
	from, to, dash := strings.Cut(text, "-")
	if !ok || !dash || strings.Contains(text, ",") {
		return nil // S3 gives the whole for what it does not understand
	}
	size := len(o.Body)
	first, err1 := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	switch {
	case from == "" && err2 == nil:
		first, last = max(0, size-last), size-1
	case err1 == nil && to == "":
		last = size - 1
	case err1 != nil || err2 != nil || last < first:
		return nil
	}
	if first >= size {
		return &wire.Error{Code: "InvalidRange", Message: "The requested range is not satisfiable",
			Status: http.StatusRequestedRangeNotSatisfiable}
	}
	last = min(last, size-1)
	c.Whole.Status, c.Whole.Body = http.StatusPartialContent, o.Body[first:last+1]
	c.Whole.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
	return nil
}

func get(b *bucket, provided []Objects, key string, now time.Time) *Object {
	for _, o := range b.objects {
		if o.Key == key {
			return o
		}
	}
	for _, p := range provided {
		if o := p.Get(key, now); o != nil {
			return o
		}
	}
	return nil
}
