package core_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// counter is a tiny service for the core's own tests.
func counter() *core.Service {
	type store struct{ n int64 }
	get := func(c *core.Call) *store { return c.Place.Store("counter", func() any { return &store{} }).(*store) }
	return &core.Service{
		Name: "counter", Protocols: []wire.Protocol{wire.JSON11}, Targets: []string{"Counter"},
		Actions: map[string]core.Action{
			"Add": {Mutating: true, Handle: func(c *core.Call) error {
				get(c).n++
				c.Mutated("n")
				return nil
			}},
			"AddLater": {Mutating: true, Handle: func(c *core.Call) error {
				c.Place.After(c.Now, time.Minute, func(time.Time) { get(c).n += 100 })
				return nil
			}},
			"Get": {Handle: func(c *core.Call) error { c.Out.Int("n", get(c).n); return nil }},
		},
	}
}

func call(t *testing.T, w *core.World, account, action string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, core.BaseURL, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Counter."+action)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+account+
		"/20260101/eu-west-1/counter/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := w.Client().Do(r)
	if err != nil {
		return 0, err.Error()
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func newWorld(t *testing.T, opts core.Options) (*core.World, *clock.Manual) {
	t.Helper()
	c := clock.NewManual(start)
	opts.Clock = c
	w := core.New(opts, counter())
	for _, id := range []string{"111111111111", "222222222222"} {
		if err := w.AddAccount(core.Account{ID: fleet.AccountID(id)}); err != nil {
			t.Fatal(err)
		}
	}
	return w, c
}

func TestEventsRunBeforeTheNextCall(t *testing.T) {
	w, c := newWorld(t, core.Options{})
	call(t, w, "111111111111", "AddLater")
	if _, body := call(t, w, "111111111111", "Get"); body != `{"n":0}` {
		t.Error(body)
	}
	c.Advance(time.Minute)
	if _, body := call(t, w, "111111111111", "Get"); body != `{"n":100}` {
		t.Error(body)
	}
	if _, body := call(t, w, "222222222222", "Get"); body != `{"n":0}` {
		t.Error("accounts share state: " + body)
	}
}

func TestLatencyIsSleptOnTheWorldsClock(t *testing.T) {
	w, _ := newWorld(t, core.Options{Latency: func(c *core.Call) time.Duration {
		if c.Action == "Add" {
			return 3 * time.Second
		}
		return 0
	}})
	call(t, w, "111111111111", "Add")
	if got := w.Now().Sub(start); got != 3*time.Second {
		t.Errorf("%s passed", got)
	}
}

func TestCallLogLimit(t *testing.T) {
	w, _ := newWorld(t, core.Options{CallLogLimit: 3})
	for range 10 {
		call(t, w, "111111111111", "Add")
	}
	calls := w.Calls()
	if len(calls) != 3 || calls[0].Seq != 8 || w.CallCount() != 10 || len(w.CallsSince(9)) != 1 {
		t.Errorf("%+v, %d in all", calls, w.CallCount())
	}
}

func TestUnknownOperationAndControls(t *testing.T) {
	w, _ := newWorld(t, core.Options{})
	if status, body := call(t, w, "111111111111", "Fly"); status != 400 || !strings.Contains(body,
		"UnknownOperationException") {
		t.Errorf("%d %s", status, body)
	}
	post := func(doc string) (int, string) {
		resp, err := w.Client().Post(core.BaseURL+"/_sim/faults", "application/json", strings.NewReader(doc))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if status, body := post(`{"action":"Add","throttle":true,"count":1}`); status != 200 || !strings.Contains(body,
		`"id":1`) {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := post(`{"acton":"Add"}`); status != 400 || !strings.Contains(body, "fault.acton") {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := post(`{"status":200}`); status != 400 {
		t.Error("a fault with status 200 was taken")
	}
	if _, body := call(t, w, "111111111111", "Add"); !strings.Contains(body, "ThrottlingException") {
		t.Error(body)
	}
	if status, _ := call(t, w, "111111111111", "Add"); status != 200 {
		t.Error("the fault outlived its count")
	}
	resp, err := w.Client().Get(core.BaseURL + "/_sim/clock")
	if err != nil {
		t.Fatal(err)
	}
	var now struct{ Now time.Time }
	if err := json.NewDecoder(resp.Body).Decode(&now); err != nil || !now.Now.Equal(start) {
		t.Errorf("%v %v", now, err)
	}
}

// shelf is a tiny REST service.
func shelf() *core.Service {
	return &core.Service{
		Name: "shelf", Protocols: []wire.Protocol{wire.RESTJSON}, ThrottleCode: "SlowDownException",
		Actions: map[string]core.Action{
			"GetBook": {Route: "GET /books/{isbn}?part[]", Params: []string{"isbn", "part"}, Handle: func(c *core.Call) error {
				if c.In.Str("isbn") == "0" {
					return &wire.Error{Code: "NoBookException", Message: "no such book", Status: http.StatusNotFound}
				}
				c.Out.Str("isbn", c.In.Str("isbn"))
				c.Out.Strings("parts", c.In.Strings("part"))
				return nil
			}},
			"PutBook": {Mutating: true, Route: "PUT /books/{isbn}", Params: []string{"isbn", "title", "clientToken"},
				Handle: func(c *core.Call) error { c.Mutated(c.In.Str("isbn")); return nil }},
		},
	}
}

func TestRESTServices(t *testing.T) {
	w := core.New(core.Options{Clock: clock.NewManual(start)}, counter(), shelf())
	if err := w.AddAccount(core.Account{ID: "111111111111"}); err != nil {
		t.Fatal(err)
	}
	ask := func(method, uri, body string) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, core.BaseURL+uri, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=111111111111"+
			"/20260101/eu-west-1/shelf/aws4_request, SignedHeaders=host, Signature=0")
		resp, err := w.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d %s %s", resp.StatusCode, resp.Header.Get("X-Amzn-Errortype"), out)
	}
	for _, tc := range []struct{ method, uri, body, want string }{
		{"GET", "/books/a%2F%2Fb?part=2&part=1", "", `200  {"isbn":"a//b","parts":["2","1"]}`},
		{"GET", "/books/0", "", `404 NoBookException {"message":"no such book"}`},
		{"PUT", "/books/7", `{"title":"x","clientToken":"t-1"}`, `200  {}`},
		{"PUT", "/books/7", `{"author":"x"}`, `400 UnknownParameter {"message":"The parameter author is not recognized"}`},
		{"DELETE", "/books/7", ``,
			`404 UnknownOperationException {"message":"No operation is found at DELETE /books/7."}`},
	} {
		if got := ask(tc.method, tc.uri, tc.body); got != tc.want {
			t.Errorf("%s %s: %s", tc.method, tc.uri, got)
		}
	}
	if calls := w.Calls(); calls[2].Token != "t-1" || calls[2].Action != "PutBook" || !calls[2].Mutated {
		t.Errorf("call log: %+v", calls[2])
	}
	if _, err := w.AddFault(core.Fault{Action: "GetBook", Throttle: true}); err != nil {
		t.Fatal(err)
	}
	if got := ask("GET", "/books/1", ""); got != `429 SlowDownException {"message":"Rate exceeded"}` {
		t.Error(got)
	}
}

func TestServiceRoutesAreChecked(t *testing.T) {
	do := func(*core.Call) error { return nil }
	for want, s := range map[string]*core.Service{
		"a route belongs to every action": {Name: "a", Protocols: []wire.Protocol{wire.RESTJSON},
			Actions: map[string]core.Action{"X": {Handle: do}}},
		"and to no other": {Name: "a", Protocols: []wire.Protocol{wire.JSON11},
			Actions: map[string]core.Action{"X": {Route: "GET /x", Handle: do}}},
		"want a method and a path": {Name: "a", Protocols: []wire.Protocol{wire.RESTJSON},
			Actions: map[string]core.Action{"X": {Route: "/x", Handle: do}}},
		"X and Y have the same route": {Name: "a", Protocols: []wire.Protocol{wire.RESTJSON},
			Actions: map[string]core.Action{"X": {Route: "GET /x", Handle: do}, "Y": {Route: "GET /x?a", Handle: do}}},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("want %q, got %q", want, got)
				}
			}()
			core.New(core.Options{}, s)
		}()
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	w, _ := newWorld(t, core.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- w.Serve(ctx, l) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/_sim/clock")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestVersionedNeverGoesBack: what a describe call sees moves through the writes in order, and ends with the last.
func TestVersionedNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const delay = 700 * time.Millisecond
		v := core.Always(0)
		now, seen := start, 0
		written := 0
		type write struct {
			at time.Time
			n  int
		}
		var writes []write
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * time.Millisecond)
			if rapid.Bool().Draw(t, "write") {
				written++
				v.Set(now, delay, written)
				writes = append(writes, write{now, written})
			}
			got := v.Seen(now)
			want := 0
			for _, w := range writes {
				if !now.Before(w.at.Add(delay)) {
					want = w.n
				}
			}
			if got < seen || got != want || v.Newest() != written {
				t.Fatalf("saw %d after %d, want %d; newest %d of %d", got, seen, want, v.Newest(), written)
			}
			seen = got
		}
		if v.Seen(now.Add(delay)) != written {
			t.Fatal("the last write is not visible after the delay")
		}
	})
}

func TestSeedErrorsNameTheirPath(t *testing.T) {
	account := func(rest string) string { return `{"accounts":[{"id":"111111111111",` + rest + `}]}` }
	region := func(ec2 string) string { return account(`"regions":{"eu-west-1":{"ec2":` + ec2 + `}}`) }
	for doc, want := range map[string]string{
		`{`:                         "seed: ",
		`{"accounts":[]} {}`:        "more than one",
		`{"acounts":[]}`:            "seed.acounts: unknown key",
		`{"accounts":[{"id":"1"}]}`: "twelve digits",
		`{"accounts":[{"id":"111111111111"},{"id":"111111111111","nam":"x"}]}`:                        "seed.accounts[1].nam",
		account(`"opt_in":["mars-1"]`):                                                                "mars-1",
		account(`"ou":"nowhere"`):                                                                     "nowhere",
		account(`"regions":{"mars-1":{}}`):                                                            "regions.mars-1",
		account(`"regions":{"eu-west-1":{"ec3":{}}}`):                                                 "regions.eu-west-1.ec3",
		region(`{"instances":[{},{"imag":1}]}`):                                                       "ec2.instances[1].imag",
		region(`{"instances":[{"image":5}]}`):                                                         "image: want string",
		region(`{"instances":[{"image":"ami-1","options":{"hop_limit":65}}]}`):                        "hop limit 65",
		region(`{"templates":[{"name":"web","versions":[{"data":{"ImageID":"x"}}]}]}`):                "versions[0].data.ImageID",
		account(`"roles":[{"name":"r","trust":{"Statement":[]},"policies":{"p":{"Statement":[1]}}}]`): "roles[0]",
		account(`"roles":[{"name":"r","trust":{"Statement":[]},"managed":["m"]}]`):                    "managed policy",
		`{"organization":{"management_account":"9"},"accounts":[]}`:                                   "management_account",
		`{"organization":{"ous":[{"name":"a","parent":"b"}]},"accounts":[]}`:                          "ous[0]",
		`{"services":{"nothing":{}},"accounts":[]}`:                                                   "services.nothing",
	} {
		w := core.New(core.Options{Clock: clock.NewManual(start)}, ec2.Service())
		if err := w.Load([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n  gives %v\n  want %q", doc, err, want)
		}
	}
}

func FuzzSeed(f *testing.F) {
	f.Add(`{"organization":{"management_account":"111111111111","ous":[{"name":"a"}]},"accounts":[{"id":"111111111111","ou":"a",
		"roles":[{"name":"r","trust":{"Statement":{"Effect":"Allow","Action":"*","Principal":"*"}}}],
		"regions":{"eu-west-1":{"ec2":{"defaults":{"hop_limit":2},"images":[{"id":"ami-0000000000000001a"}],
		"templates":[{"name":"web","versions":[{"data":{"ImageId":"x","BlockDeviceMappings":[{"Ebs":{"VolumeSize":1}}]}}]}],
		"instances":[{"image":"ami-1","template":"web","tags":{"a":"b"}}]}}}}]}`)
	f.Fuzz(func(t *testing.T, doc string) {
		w := core.New(core.Options{Clock: clock.NewManual(start)}, ec2.Service())
		if err := w.Load([]byte(doc)); err != nil && err.Error() == "" {
			t.Fatal("an error without words")
		}
	})
}

func TestIDsNeverRepeat(t *testing.T) {
	w, _ := newWorld(t, core.Options{Seed: 7})
	seen := map[string]bool{}
	for range 100_000 {
		id := w.NewID("i-")
		if seen[id] || len(id) != 19 {
			t.Fatal(id)
		}
		seen[id] = true
	}
	other, _ := newWorld(t, core.Options{Seed: 8})
	if id := other.NewID("i-"); seen[id] {
		t.Error(fmt.Sprint("another seed gives the same ids: ", id))
	}
}

// TestCallsOfOnePlaceExcludeEachOther: no effect is lost among concurrent writers, and every call is in the log once.
func TestCallsOfOnePlaceExcludeEachOther(t *testing.T) {
	w, _ := newWorld(t, core.Options{})
	const workers, each = 8, 50
	var wg sync.WaitGroup
	for n := range workers {
		account := []string{"111111111111", "222222222222"}[n%2]
		wg.Go(func() {
			for range each {
				call(t, w, account, "Add")
				call(t, w, account, "Get")
			}
		})
	}
	wg.Wait()
	for _, account := range []string{"111111111111", "222222222222"} {
		if _, body := call(t, w, account, "Get"); body != fmt.Sprintf(`{"n":%d}`, workers/2*each) {
			t.Errorf("%s: %s", account, body)
		}
	}
	mutated := 0
	for i, c := range w.Calls() {
		if c.Seq != int64(i+1) {
			t.Fatalf("record %d has number %d", i, c.Seq)
		}
		if c.Mutated {
			mutated++
		}
	}
	if mutated != workers*each {
		t.Errorf("%d changes in the log, want %d", mutated, workers*each)
	}
}
