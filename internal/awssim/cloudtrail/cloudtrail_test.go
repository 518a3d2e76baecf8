package cloudtrail_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/cloudtrail"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

var start = time.Date(2026, 11, 20, 12, 3, 0, 0, time.UTC)

const seed = `{"services": {"workload": {"programs": [
  {"name": "old", "user_agent": "Boto3/1.9.2", "speaks": "v1-only", "every": "10m", "anchor": "2026-11-01T00:05:00Z",
   "api_calls": ["s3:GetObject", "ec2:DescribeTags"], "where": {"tags": ["app=x"]}},
  {"name": "new", "user_agent": "aws-sdk-go-v2/1.41.0", "speaks": "v2-then-v1", "every": "1h", "anchor": "2026-11-01T00:07:00Z",
   "api_calls": ["ec2:DescribeTags"], "where": {"tags": ["app=x"]}}]},
  "cloudtrail": {"trails": [{"name": "all", "bucket": "b", "history": "3h", "data_events": true}, {"name": "bare", "bucket": "c", "history": "3h"}]}},
 "accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"ec2": {"images": [{"id": "ami-0123456789abcdef0"}], "instances": [
  {"id": "i-0123456789abcdef0", "image": "ami-0123456789abcdef0", "tags": {"app": "x"}, "profile_arn": "arn:aws:iam::111122223333:instance-profile/app"},
  {"id": "i-0123456789abcdef1", "image": "ami-0123456789abcdef0", "tags": {"app": "x"}}]}}}}]}`

func newWorld(t *testing.T) (*awssim.World, *clock.Manual) {
	t.Helper()
	c := clock.NewManual(start)
	w := awssim.New(awssim.Options{Clock: c, Seed: 3})
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	return w, c
}

func trail(t *testing.T, w *awssim.World, name string) *cloudtrail.Trail {
	t.Helper()
	found, ok := cloudtrail.Find(w, name)
	if !ok {
		t.Fatalf("no trail %s", name)
	}
	return found
}

// files are a trail's, by key.
func files(t *testing.T, w *awssim.World, name string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for o := range trail(t, w, name).List("", "", w.Now()) {
		z, err := gzip.NewReader(bytes.NewReader(o.Body))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		out[o.Key] = string(text)
	}
	return out
}

func TestFilesAreTheSameWheneverTheyAreMade(t *testing.T) {
	w, c := newWorld(t)
	before := files(t, w, "all")
	c.Advance(30 * time.Minute)
	again, _ := newWorld(t)
	for key, text := range files(t, again, "all") {
		if before[key] != text {
			t.Errorf("%s differs in a world that is the same", key)
		}
	}
	later := files(t, w, "all")
	for key, text := range before {
		if later[key] != text {
			t.Errorf("%s has changed or gone since", key)
		}
		if o := trail(t, w, "all").Get(key, w.Now()); o == nil || o.Key != key {
			t.Errorf("%s is listed and cannot be read", key)
		}
	}
	if len(later) != len(before)+3 {
		t.Errorf("%d files, and half an hour later %d", len(before), len(later))
	}
	if trail(t, w, "all").Get("AWSLogs/111122223333/CloudTrail/eu-west-1/2026/11/20/none", w.Now()) != nil {
		t.Error("a file that is not listed can be read")
	}
}

// Five to fifteen minutes after a call its file is there, and not before.
func TestTheDelay(t *testing.T) {
	w, c := newWorld(t)
	begun := w.Now()
	seen := map[string]time.Time{}
	for range 180 {
		for _, text := range files(t, w, "all") {
			var file struct {
				Records []struct {
					EventID   string    `json:"eventID"`
					EventTime time.Time `json:"eventTime"`
				}
			}
			if err := json.Unmarshal([]byte(text), &file); err != nil {
				t.Fatal(err)
			}
			for _, r := range file.Records {
				if _, before := seen[r.EventID]; before || r.EventTime.Before(begun) {
					continue
				}
				seen[r.EventID] = r.EventTime
				if late := w.Now().Sub(r.EventTime); late < 5*time.Minute || late > 16*time.Minute {
					t.Errorf("an event of %s was delivered %s after it", r.EventTime, late)
				}
			}
		}
		c.Advance(20 * time.Second)
	}
	if len(seen) < 20 {
		t.Errorf("%d events in an hour", len(seen))
	}
}

// How a program speaks, under the options of its instance then, is what delivers its credentials.
func TestTheDeliveryFollowsTheOptions(t *testing.T) {
	w, c := newWorld(t)
	count := func(name, delivery, call string) (n int) {
		for _, text := range files(t, w, name) {
			for _, r := range strings.Split(text, `{"eventVersion"`) {
				if strings.Contains(r, `"ec2RoleDelivery":"`+delivery+`"`) && strings.Contains(r, `"eventName":"`+call+`"`) {
					n++
				}
			}
		}
		return n
	}
	v1, v2 := count("all", "1.0", "GetObject"), count("all", "2.0", "DescribeTags")
	if v1 < 17 || v2 != 3 || count("bare", "1.0", "GetObject") != 0 || count("bare", "1.0", "DescribeTags") != v1 {
		t.Errorf("in three hours %d calls by v1 and %d by v2; a trail without data events has %d", v1, v2, count("bare", "1.0", "GetObject"))
	}
	for _, text := range files(t, w, "all") {
		if strings.Contains(text, "i-0123456789abcdef1") {
			t.Fatal("an instance without a profile has credentials")
		}
	}
	p, err := w.Place("111122223333", "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	require(t, w, p)
	c.Advance(2 * time.Hour)
	if after := count("all", "1.0", "GetObject"); after > v1+2 {
		t.Errorf("%d calls by v1 before tokens were required, %d in all two hours later", v1, after)
	}
	if count("all", "2.0", "DescribeTags") < v2+1 {
		t.Error("what speaks v2 has gone as well")
	}
}

// require has the instance require tokens, as an operator would.
func require(t *testing.T, w *awssim.World, p *core.Place) {
	t.Helper()
	form := "Action=ModifyInstanceMetadataOptions&Version=2016-11-15&InstanceId=i-0123456789abcdef0&HttpTokens=required&HttpEndpoint=enabled"
	send(t, w, string(p.Account), p.Region, "ec2", form)
}

func send(t *testing.T, w *awssim.World, account string, region fleet.Region, service, form string) {
	t.Helper()
	r := request(t, account, region, service, form)
	resp, err := w.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s", form, text)
	}
}

func request(t *testing.T, account string, region fleet.Region, service, form string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, awssim.BaseURL, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+account+"/20261120/"+string(region)+"/"+service+
		"/aws4_request, SignedHeaders=host, Signature=0")
	return r
}
