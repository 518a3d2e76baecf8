package wire

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

func TestParseFormBuildsListsAndStructures(t *testing.T) {
	v, err := ParseForm(url.Values{
		"Filter.1.Name": {"tag:env"}, "Filter.1.Value.1": {"a"}, "Filter.1.Value.2": {"b"}, "Filter.1.Value.10": {"j"},
		"Ids.member.1": {"x"}, "Ids.member.2": {"y"}, "MaxResults": {"5"}, "DryRun": {"TRUE"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Items("Filter")[0].Strings("Value"); !slices.Equal(got, []string{"a", "b", "j"}) {
		t.Errorf("values by number = %v", got)
	}
	if got := v.Strings("Ids"); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("member list = %v", got)
	}
	if n, set, err := v.Int("MaxResults"); n != 5 || !set || err != nil {
		t.Errorf("Int = %d %v %v", n, set, err)
	}
	if b, _, err := v.Bool("DryRun"); !b || err != nil {
		t.Errorf("Bool = %v %v", b, err)
	}
	if got := v.Flat(); got[0] != "DryRun=TRUE" || !slices.Contains(got, "Filter.1.Value.10=j") {
		t.Errorf("Flat = %v", got)
	}
}

func TestScalarsRefuseWhatTheyAreNot(t *testing.T) {
	v, _ := ParseForm(url.Values{"A": {"five"}})
	_, _, errInt := v.Int("A")
	_, _, errBool := v.Bool("A")
	_, _, errFloat := v.Float("A")
	_, _, errTime := v.Time("A")
	for _, err := range []error{errInt, errBool, errFloat, errTime} {
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != "InvalidParameterValue" {
			t.Errorf("got %v", err)
		}
	}
}

func TestTheThreeParsersAgree(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 500e6, time.UTC)
	form, err := ParseForm(url.Values{"N": {"7"}, "T": {at.Format(time.RFC3339Nano)}, "L.member.1.K": {"v"},
		"B": {"true"}})
	if err != nil {
		t.Fatal(err)
	}
	js, err := ParseJSON([]byte(`{"N":7,"T":1777863721.5,"L":[{"K":"v"}],"B":true,"Null":null}`))
	if err != nil {
		t.Fatal(err)
	}
	body, err := cbor.Marshal(map[string]any{"N": 7, "T": cbor.Tag{Number: 1, Content: 1777863721.5},
		"L": []any{map[string]any{"K": "v"}}, "B": true})
	if err != nil {
		t.Fatal(err)
	}
	cb, err := ParseCBOR(body)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]Value{"form": form, "json": js, "cbor": cb} {
		n, _, _ := v.Int("N")
		tm, _, err := v.Time("T")
		b, _, _ := v.Bool("B")
		if n != 7 || !tm.Equal(at) || !b || err != nil || v.Items("L")[0].Str("K") != "v" || v.Has("Null") {
			t.Errorf("%s: %v %v %v %v %v", name, n, tm, b, err, v.Flat())
		}
	}
}

func TestWriterSaysTheSameInEveryProtocol(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 500e6, time.UTC)
	write := func(p Protocol) []byte {
		w := NewWriter(p)
		err := w.Response("Do", "urn:x", "req-1", func() error {
			w.Str("S", "a<b>&\"é\x01")
			w.Int("I", -70000)
			w.Float("F", 2.5)
			w.Bool("B", true)
			w.Time("T", at)
			w.List("L", func() {
				w.Struct("", func() { w.Str("K", "1") })
				w.Struct("", func() { w.Str("K", "2") })
			})
			w.Strings("E", nil)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return w.Bytes()
	}
	var x struct {
		Result struct {
			S, T string
			I    int
			F    float64
			B    bool
			L    []struct{ K string } `xml:"L>member"`
		} `xml:"DoResult"`
		ID string `xml:"ResponseMetadata>RequestId"`
	}
	if err := xml.Unmarshal(write(Query), &x); err != nil {
		t.Fatal(err)
	}
	if x.Result.S != "a<b>&\"é\uFFFD" || x.Result.I != -70000 || x.Result.T != "2026-05-04T03:02:01.500Z" ||
		len(x.Result.L) != 2 || x.ID != "req-1" {
		t.Errorf("query: %+v", x)
	}
	var ec2 struct {
		ID string               `xml:"requestId"`
		L  []struct{ K string } `xml:"L>item"`
	}
	if err := xml.Unmarshal(write(EC2Query), &ec2); err != nil || ec2.ID != "req-1" || len(ec2.L) != 2 ||
		ec2.L[1].K != "2" {
		t.Errorf("ec2: %+v %v", ec2, err)
	}
	var j map[string]any
	if err := json.Unmarshal(write(JSON11), &j); err != nil {
		t.Fatal(err)
	}
	if j["S"] != "a<b>&\"é\x01" || j["I"] != -70000.0 || j["T"] != 1777863721.5 || len(j["L"].([]any)) != 2 ||
		len(j["E"].([]any)) != 0 {
		t.Errorf("json: %v", j)
	}
	var c map[string]any
	if err := cbor.Unmarshal(write(CBOR), &c); err != nil {
		t.Fatal(err)
	}
	if c["I"] != int64(-70000) || c["F"] != 2.5 || c["B"] != true || !c["T"].(time.Time).Equal(at) ||
		len(c["L"].([]any)) != 2 {
		t.Errorf("cbor: %v", c)
	}
}

func TestParseRefusals(t *testing.T) {
	cases := []struct {
		name, contentType, target, body, code string
	}{
		{"no action", "application/x-www-form-urlencoded", "", "Version=1", "MissingAction"},
		{"bad escape", "application/x-www-form-urlencoded", "", "Action=%zz", "MalformedQueryString"},
		{"twice", "application/x-www-form-urlencoded", "", "Action=A&X=1&X=2", "InvalidParameterCombination"},
		{"empty part", "application/x-www-form-urlencoded", "", "Action=A&X..1=2", "MalformedQueryString"},
		{"too deep", "application/x-www-form-urlencoded", "", "Action=A&" + strings.Repeat("a.", 64) + "b=1",
			"MalformedQueryString"},
		{"json list", "application/x-amz-json-1.1", "S.Op", "[]", "SerializationException"},
		{"json broken", "application/x-amz-json-1.1", "S.Op", "{", "SerializationException"},
		{"json twice", "application/x-amz-json-1.1", "S.Op", "{}{}", "SerializationException"},
		{"json no target", "application/x-amz-json-1.1", "", "{}", "UnknownOperationException"},
		{"cbor broken", "application/cbor", "", "\xff", "SerializationException"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/service/S/operation/Op", strings.NewReader(tc.body))
			r.Header.Set("Content-Type", tc.contentType)
			if tc.target != "" {
				r.Header.Set("X-Amz-Target", tc.target)
			}
			_, err := Parse(r, Dialect{})
			if e, ok := errors.AsType[*Error](err); !ok || e.Code != tc.code {
				t.Fatalf("got %v, want %s", err, tc.code)
			}
		})
	}
}

func TestGzipBody(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(`{"A":"x"}`))
	_ = z.Close()
	r := httptest.NewRequest(http.MethodPost, "/", &b)
	r.Header.Set("X-Amz-Target", "Svc_1.Op")
	r.Header.Set("Content-Encoding", "gzip")
	req, err := Parse(r, Dialect{})
	if err != nil || req.Target != "Svc_1" || req.Action != "Op" || req.Params.Str("A") != "x" {
		t.Fatalf("%+v %v", req, err)
	}
}

func TestErrorsInEveryProtocol(t *testing.T) {
	e := &Error{Code: "Old", Shape: "NewException", Message: "a<b", Status: 400}
	for p, want := range map[Protocol]string{
		EC2Query: "<Response><Errors><Error><Code>Old</Code><Message>a&lt;b</Message></Error></Errors><RequestID>r</RequestID></Response>",
		Query:    "<Error><Type>Sender</Type><Code>Old</Code><Message>a&lt;b</Message></Error><RequestId>r</RequestId>",
		JSON11:   `{"__type":"NewException","message":"a<b","Message":"a<b"}`,
		RESTJSON: `{"message":"a<b"}`,
	} {
		h := http.Header{}
		if got := string(WriteError(h, p, "urn:x", "r", e)); !strings.Contains(got, want) {
			t.Errorf("%s: %s", p, got)
		}
	}
	h := http.Header{}
	var m map[string]string
	if err := cbor.Unmarshal(WriteError(h, CBOR, "", "r", e), &m); err != nil || m["__type"] != "NewException" {
		t.Errorf("cbor: %v %v", m, err)
	}
	if h.Get("X-Amzn-Query-Error") != "Old;Sender" || h.Get("Smithy-Protocol") != "rpc-v2-cbor" {
		t.Errorf("headers %v", h)
	}
}

func FuzzParseForm(f *testing.F) {
	f.Add("Filter.1.Name=a&Filter.1.Value.1=b")
	f.Add("X.member.1=2&X=3")
	f.Add("a.a.a=1&a=2")
	f.Fuzz(func(t *testing.T, query string) {
		form, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		v, err := ParseForm(form)
		if err != nil {
			return
		}
		for _, n := range v.Names() {
			_, _, _ = v.Int(n)
			_ = v.Items(n)
		}
		_ = v.Flat()
	})
}

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"A":[{"B":1.5}],"C":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if v, err := ParseJSON(body); err == nil {
			_ = v.Flat()
		}
	})
}

func FuzzParseCBOR(f *testing.F) {
	seed, _ := cbor.Marshal(map[string]any{"A": []any{1, "x", 2.5}, "T": time.Unix(1, 0)})
	f.Add(seed)
	f.Fuzz(func(t *testing.T, body []byte) {
		if v, err := ParseCBOR(body); err == nil {
			_ = v.Flat()
		}
	})
}

// FuzzWriterXML checks that any text comes back out of a real XML parser unless XML cannot carry it.
func FuzzWriterXML(f *testing.F) {
	f.Add("a<b>&'\"\r\n\té")
	f.Fuzz(func(t *testing.T, s string) {
		w := NewWriter(EC2Query)
		w.Str("v", s)
		var got string
		if err := xml.Unmarshal(w.Bytes(), &got); err != nil {
			t.Fatalf("%q gives %q: %v", s, w.Bytes(), err)
		}
		if !strings.ContainsRune(got, '\uFFFD') && got != s {
			t.Fatalf("%q came back as %q", s, got)
		}
	})
}
