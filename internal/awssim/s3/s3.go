// Package s3 is the simulator's part of Amazon S3 that reading log files takes: buckets, lists of their objects, and the objects.
//
// It owns the buckets of a world, their objects and who may read them: the account that has a bucket, as far as the caller's
// policies allow, and the accounts that the seed names as its readers. Objects are the seed's, or are made when they are asked for
// by another service (a trail's log files). Nothing can be written. A request for a bucket of another region is redirected, as S3
// does it; addresses by host (bucket.s3.…) and by path are both understood.
package s3

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Name is the service's name, and that of its section in a seed's account ("global").
const Name = "s3"

// Object is one object. Its tag is the MD5 of its content, as S3 makes it of objects that were sent in one piece.
type Object struct {
	Key      string
	Modified time.Time
	// Type and Encoding are its headers.
	Type, Encoding string
	Body           []byte
}

// ETag is the object's entity tag, in quotes.
func (o *Object) ETag() string {
	sum := md5.Sum(o.Body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// Objects gives objects that are made when they are asked for. It is called without any place locked.
type Objects interface {
	// List gives those with the prefix that are there now and come after a key, by key.
	List(prefix, after string, now time.Time) iter.Seq[*Object]
	// Get gives one, or nil.
	Get(key string, now time.Time) *Object
}

// bucket is a bucket. Seeded ones do not change.
type bucket struct {
	name    string
	account fleet.AccountID
	region  fleet.Region
	readers []string
	objects []*Object // by key
}

// store holds the buckets of a world, whose names are unique in it.
type store struct {
	mu       sync.RWMutex
	buckets  map[string]*bucket
	provided map[string][]Objects
}

func storeOf(w *core.World) *store {
	return w.Store(Name, func() any { return &store{buckets: map[string]*bucket{}, provided: map[string][]Objects{}} }).(*store)
}

// Provide adds objects that are made when asked for to a bucket, which may be seeded before or after.
func Provide(w *core.World, name string, o Objects) {
	s := storeOf(w)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.provided[name] = append(s.provided[name], o)
}

// Service declares S3. It is global in the simulator, so that a call holds no region's place; the region of the request counts.
//
// S3 serves 5,500 reads a second of each prefix ("Best practices design patterns: optimizing Amazon S3 performance").
func Service() *core.Service {
	read := core.Bucket{Burst: 5500, Refill: 5500}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.RESTXML}, Global: true, Parse: parse,
		Actions: map[string]core.Action{
			"ListObjectsV2": {IAM: "s3:ListBucket", Bucket: read, Access: accessBucket, Handle: listObjects},
			"HeadBucket":    {IAM: "s3:ListBucket", Bucket: read, Access: accessBucket, Handle: headBucket},
			"GetObject":     {Bucket: read, Access: accessObject, Handle: getObject},
		},
		SeedPlace: seedPlace,
	}
}

// seedSection is the section "s3" of a seed's account.
type seedSection struct {
	Buckets []seedBucket `json:"buckets"`
}

type seedBucket struct {
	Name   string       `json:"name"`
	Region fleet.Region `json:"region"`
	// Readers are other accounts that the bucket's policy lets list and read; "*" is all.
	Readers []string     `json:"readers,omitempty"`
	Objects []seedObject `json:"objects,omitempty"`
}

type seedObject struct {
	Key      string    `json:"key"`
	Text     string    `json:"text,omitempty"`
	Bytes    []byte    `json:"base64,omitempty"`
	Modified time.Time `json:"modified,omitzero"`
}

// namePattern is of the names that buckets may have ("General purpose bucket naming rules").
var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in seedSection
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s := storeOf(p.World())
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, b := range in.Buckets {
		made := &bucket{name: b.Name, account: p.Account, region: b.Region, readers: b.Readers}
		if !namePattern.MatchString(b.Name) || b.Region == "" || s.buckets[b.Name] != nil {
			return fmt.Errorf("%s.buckets[%d]: %q is no bucket's name, is there already, or has no region", path, n, b.Name)
		}
		for i, o := range b.Objects {
			if o.Key == "" || len(o.Key) > 1024 || o.Text != "" && o.Bytes != nil {
				return fmt.Errorf("%s.buckets[%d].objects[%d]: want a key of at most 1024 bytes, and text or base64", path, n, i)
			}
			modified := o.Modified
			if modified.IsZero() {
				modified = p.World().Now()
			}
			body := o.Bytes
			if body == nil {
				body = []byte(o.Text)
			}
			made.objects = append(made.objects, &Object{Key: o.Key, Modified: modified, Body: body})
		}
		slices.SortFunc(made.objects, func(a, b *Object) int { return cmp.Compare(a.Key, b.Key) })
		s.buckets[b.Name] = made
	}
	return nil
}

// parse tells the operation by method, host, path and query (Amazon S3 API reference).
func parse(r *http.Request) (wire.Request, error) {
	req := wire.Request{Protocol: wire.RESTXML}
	name, key := address(r)
	fields := map[string]wire.Value{"Bucket": wire.Scalar(name)}
	query := r.URL.Query()
	for k, v := range query {
		if !strings.HasPrefix(k, "X-Amz-") && k != "x-id" {
			fields[k] = wire.Scalar(v[0])
		}
	}
	for _, h := range []string{"Range", "If-Match", "If-None-Match", "X-Amz-Expected-Bucket-Owner"} {
		if v := r.Header.Get(h); v != "" {
			fields[h] = wire.Scalar(v)
		}
	}
	switch {
	case name == "":
	case r.Method == http.MethodGet && key != "":
		req.Action, fields["Key"] = "GetObject", wire.Scalar(key)
	case r.Method == http.MethodGet && query.Get("list-type") == "2":
		req.Action = "ListObjectsV2"
	case r.Method == http.MethodHead && key == "":
		req.Action = "HeadBucket"
	}
	req.Params = wire.Fields(fields)
	if req.Action == "" {
		return req, &wire.Error{Code: "NotImplemented", Status: http.StatusNotImplemented,
			Message: "The simulator lists the objects of a bucket (version 2) and reads them, and nothing else of S3."}
	}
	return req, nil
}

// address finds the bucket and the key: the bucket is the first label of the host, or the first piece of the path where the host is
// an address, the simulator's own name, or S3's.
func address(r *http.Request) (bucket, key string) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	path := strings.TrimPrefix(r.URL.Path, "/")
	if net.ParseIP(strings.Trim(host, "[]")) == nil {
		for _, own := range []string{".localhost", ".aws.sim"} {
			if name, ok := strings.CutSuffix(host, own); ok {
				return name, path
			}
		}
		if i := strings.Index(host, ".s3."); i > 0 && strings.Contains(host[i:], ".amazonaws.com") {
			return host[:i], path
		}
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key
}

// find gives the bucket that a call names, if it is in the region of the request and the caller's account may read it.
func find(c *core.Call) (*bucket, []Objects, error) {
	name := c.In.Str("Bucket")
	s := storeOf(c.World)
	s.mu.RLock()
	b, provided := s.buckets[name], s.provided[name]
	s.mu.RUnlock()
	if b == nil {
		return nil, nil, &wire.Error{Code: "NoSuchBucket", Message: "The specified bucket does not exist", Status: http.StatusNotFound}
	}
	c.Touch(name)
	c.Whole = &core.Whole{Status: http.StatusOK, Header: http.Header{"X-Amz-Bucket-Region": {string(b.region)}}}
	if b.region != c.Region() {
		return nil, nil, &wire.Error{Code: "PermanentRedirect", Status: http.StatusMovedPermanently,
			Message: "The bucket you are attempting to access must be addressed using the specified endpoint. " +
				"Please send all future requests to this endpoint."}
	}
	if owner := c.In.Str("X-Amz-Expected-Bucket-Owner"); owner != "" && owner != string(b.account) ||
		c.Account() != b.account && !slices.Contains(b.readers, string(c.Account())) && !slices.Contains(b.readers, "*") {
		return nil, nil, &wire.Error{Code: "AccessDenied", Message: "Access Denied", Status: http.StatusForbidden}
	}
	return b, provided, nil
}

func bucketARN(c *core.Call) string {
	return "arn:" + string(c.Place.Partition) + ":s3:::" + c.In.Str("Bucket")
}

func accessBucket(c *core.Call) []core.Access {
	return []core.Access{{Resource: bucketARN(c), Condition: map[string][]string{"s3:prefix": {c.In.Str("prefix")}}}}
}

func accessObject(c *core.Call) []core.Access {
	return []core.Access{{Resource: bucketARN(c) + "/" + c.In.Str("Key")}}
}

func headBucket(c *core.Call) error {
	_, _, err := find(c)
	if err == nil {
		c.Whole.Header.Set("Content-Type", "application/xml")
	}
	return err
}
