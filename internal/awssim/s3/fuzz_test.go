package s3

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

func TestAddresses(t *testing.T) {
	for address, want := range map[string][2]string{
		"http://127.0.0.1:4566/b/a/c":                      {"b", "a/c"},
		"http://localhost:4566/b/":                         {"b", ""},
		"http://b.localhost:4566/a//c/":                    {"b", "a//c/"},
		"http://aws.sim/b/a":                               {"b", "a"},
		"http://b.aws.sim/a":                               {"b", "a"},
		"https://b.s3.eu-west-1.amazonaws.com/a":           {"b", "a"},
		"https://x.y.s3.cn-north-1.amazonaws.com.cn/a%2Fc": {"x.y", "a/c"},
		"https://s3.eu-west-1.amazonaws.com/b/a":           {"b", "a"},
		"http://[::1]:4566/b":                              {"b", ""},
	} {
		bucket, key := address1(t, address)
		if [2]string{bucket, key} != want {
			t.Errorf("%s: bucket %q, key %q, want %q", address, bucket, key, want)
		}
	}
}

func address1(t *testing.T, text string) (string, string) {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return address(&http.Request{URL: u, Host: u.Host})
}

// Pages of any size, with any delimiter, together are the list that one page gives, each key and common prefix once.
func TestPagesProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.StringMatching(`[ab/]{1,5}`), 0, 20, rapid.ID).Draw(rt, "keys")
		slices.Sort(keys)
		b := &bucket{}
		for _, k := range keys {
			b.objects = append(b.objects, &Object{Key: k})
		}
		prefix := rapid.StringMatching(`[ab/]{0,2}`).Draw(rt, "prefix")
		delimiter := rapid.SampledFrom([]string{"", "/", "a"}).Draw(rt, "delimiter")
		read := func(size int) (contents, prefixes []string) {
			after := ""
			for range 100 {
				l := listing{Prefix: prefix, Delimiter: delimiter, MaxKeys: size}
				l.page(b, nil, after, time.Time{})
				for _, c := range l.Contents {
					contents = append(contents, c.Key)
				}
				for _, p := range l.CommonPrefixes {
					prefixes = append(prefixes, p.Prefix)
				}
				if l.KeyCount != len(l.Contents)+len(l.CommonPrefixes) || l.KeyCount > size {
					rt.Fatalf("%d keys on a page of %d", l.KeyCount, size)
				}
				if !l.IsTruncated {
					return contents, prefixes
				}
				after = l.last
			}
			rt.Fatal("the pages do not end")
			return nil, nil
		}
		whole, rolled := read(1000)
		var want, wantRolled []string
		for _, k := range keys {
			rest, ok := strings.CutPrefix(k, prefix)
			if !ok {
				continue
			}
			if i := strings.Index(rest, delimiter); delimiter != "" && i >= 0 {
				wantRolled = append(wantRolled, prefix+rest[:i+len(delimiter)])
				continue
			}
			want = append(want, k)
		}
		if !slices.Equal(whole, want) || !slices.Equal(rolled, slices.Compact(wantRolled)) {
			rt.Fatalf("of %q: %q and %q, want %q and %q", keys, whole, rolled, want, wantRolled)
		}
		contents, prefixes := read(rapid.IntRange(1, 5).Draw(rt, "size"))
		if !slices.Equal(contents, whole) || !slices.Equal(prefixes, rolled) {
			rt.Fatalf("in pages %q and %q, at once %q and %q", contents, prefixes, whole, rolled)
		}
	})
}

// Whatever a request is, it is one of the three operations with a bucket, or refused.
func FuzzParse(f *testing.F) {
	f.Add("GET", "/b/k", "list-type=2", "127.0.0.1")
	f.Add("HEAD", "/b", "", "b.localhost")
	f.Fuzz(func(t *testing.T, method, path, query, host string) {
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/", nil)
		r.Method, r.Host = method, host
		r.URL = &url.URL{Path: path, RawQuery: query}
		req, err := parse(r)
		if req.Protocol != wire.RESTXML || err == nil && (req.Params.Str("Bucket") == "" || req.Action == "GetObject" && req.Params.Str("Key") == "") {
			t.Errorf("%+v, %v", req, err)
		}
	})
}
