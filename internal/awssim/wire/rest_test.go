package wire

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func routes(t testing.TB, of ...string) Routes {
	t.Helper()
	var rs []Route
	for i := 0; i < len(of); i += 2 {
		r, err := ParseRoute(of[i], of[i+1])
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	out, err := NewRoutes(rs...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func clusterRoutes(t testing.TB) Routes {
	return routes(t,
		"ListClusters", "GET /clusters?include[]&maxResults&nextToken",
		"DescribeCluster", "GET /clusters/{name}",
		"Default", "GET /clusters/default",
		"UpdateVersion", "POST /clusters/{name}/node-groups/{nodegroupName}/update-version",
		"ListTags", "GET /tags/{arn+}",
		"Root", "GET /",
	)
}

func TestRESTRequests(t *testing.T) {
	d := Dialect{Routes: clusterRoutes(t)}
	cases := []struct{ method, uri, body, action, flat string }{
		{"GET", "/clusters", "", "ListClusters", ""},
		{"GET", "/clusters/?maxResults=5&include=all&X-Amz-Date=x", "", "ListClusters", "include.1=all maxResults=5"},
		{"GET", "/clusters?include=b&include=a", "", "ListClusters", "include.1=b include.2=a"},
		{"GET", "/clusters/prod%2Feu%20west", "", "DescribeCluster", "name=prod/eu west"},
		{"GET", "/clusters/default", "", "Default", ""},
		{"POST", "/clusters/a/node-groups/b/update-version", `{"force":true,"launchTemplate":{"version":"7"}}`, "UpdateVersion",
			"force=true launchTemplate.version=7 name=a nodegroupName=b"},
		{"GET", "/tags/arn:aws:eks:x/cluster/y%3F", "", "ListTags", "arn=arn:aws:eks:x/cluster/y?"},
		{"GET", "/", "", "Root", ""},
	}
	for _, tc := range cases {
		req, err := Parse(httptest.NewRequest(tc.method, tc.uri, strings.NewReader(tc.body)), d)
		if err != nil || req.Protocol != RESTJSON || req.Action != tc.action ||
			strings.Join(req.Params.Flat(), " ") != tc.flat {
			t.Errorf("%s %s: %s %s %v, %v", tc.method, tc.uri, req.Protocol, req.Action, req.Params.Flat(), err)
		}
	}
}

func TestRESTRefusals(t *testing.T) {
	d := Dialect{Routes: clusterRoutes(t)}
	cases := []struct{ method, uri, body, code string }{
		{"GET", "/nothing", "", "UnknownOperationException"},
		{"DELETE", "/clusters/a", "", "UnknownOperationException"},
		{"GET", "/clusters/a/b", "", "UnknownOperationException"},
		{"GET", "/clusters//", "", "UnknownOperationException"},
		{"GET", "/tags/", "", "UnknownOperationException"},
		{"GET", "/clusters?color=red", "", "UnknownParameter"},
		{"GET", "/clusters?maxResults=1&maxResults=2", "", "SerializationException"},
		{"GET", "/clusters?maxResults=%zz", "", "MalformedQueryString"},
		{"POST", "/clusters/a/node-groups/b/update-version", `[]`, "SerializationException"},
		{"POST", "/clusters/a/node-groups/b/update-version", `{"name":"other"}`, "SerializationException"},
	}
	for _, tc := range cases {
		req, err := Parse(httptest.NewRequest(tc.method, tc.uri, strings.NewReader(tc.body)), d)
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != tc.code || req.Protocol != RESTJSON {
			t.Errorf("%s %s: got %v, want %s", tc.method, tc.uri, err, tc.code)
		}
	}
}

// TestRESTLeavesOtherProtocolsAlone: a request that names its protocol is not looked for among the routes.
func TestRESTLeavesOtherProtocolsAlone(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/clusters", strings.NewReader("{}"))
	r.Header.Set("X-Amz-Target", "Svc.Op")
	if req, err := Parse(r, Dialect{Routes: clusterRoutes(t)}); err != nil || req.Protocol != JSON11 || req.Action != "Op" {
		t.Errorf("%+v %v", req, err)
	}
}

func TestRESTErrorsNameTheirShape(t *testing.T) {
	h := http.Header{}
	body := WriteError(h, RESTJSON, "", "r-1", &Error{Code: "ResourceNotFoundException", Message: "no \"x\"", Status: 404})
	if h.Get("X-Amzn-Errortype") != "ResourceNotFoundException" || h.Get("Content-Type") != "application/json" ||
		h.Get("X-Amzn-Requestid") != "r-1" || string(body) != `{"message":"no \"x\""}` {
		t.Errorf("%v %s", h, body)
	}
}

func TestRoutesThatCannotBe(t *testing.T) {
	for _, route := range []string{
		"", "GET", "GET x", " /x", "GET /{a", "GET /{}", "GET /{+}", "GET /{a}/{a}", "GET /{a+}/b", "GET /x?a&",
		"GET /x?a&a", "GET /{a}?a", "GET /x?[]",
	} {
		if _, err := ParseRoute("X", route); err == nil {
			t.Errorf("%q was taken", route)
		}
	}
	a, _ := ParseRoute("A", "GET /x/{one}")
	b, _ := ParseRoute("B", "GET /x/{two}?page")
	if _, err := NewRoutes(a, b); err == nil || !strings.Contains(err.Error(), "A and B") {
		t.Errorf("two routes of one shape: %v", err)
	}
}

// FuzzREST checks that no request breaks the reader, and that no operation is found without all its labels.
func FuzzREST(f *testing.F) {
	f.Add("POST", "/clusters/a/node-groups/b%2Fc/update-version", "", `{"force":true}`)
	f.Add("GET", "/tags/a//b/%25", "x=1", "")
	f.Add("GET", "/clusters", "include=a&include=&maxResults=%31", "")
	rs := clusterRoutes(f)
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		r := &http.Request{Method: method, Header: http.Header{}}
		r.URL = httptest.NewRequest(http.MethodGet, "/", nil).URL
		r.URL.RawQuery = query
		r.URL.Path, r.URL.RawPath = path, path
		action, params, err := rs.parse(r, []byte(body))
		if err != nil {
			return
		}
		at := slices.IndexFunc(rs, func(t Route) bool { return t.Action == action })
		for _, s := range rs[at].segments {
			if s.label && params.Str(s.text) == "" {
				t.Errorf("%s %s gives %s without its label %s", method, path, action, s.text)
			}
		}
		_ = params.Flat()
	})
}
