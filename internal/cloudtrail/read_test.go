package cloudtrail

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

// read reads a text and gives its records with what reading came to.
func read(t testing.TB, r io.Reader) ([]Record, Result) {
	t.Helper()
	var out []Record
	result, err := Read(context.Background(), r, Span{}, func(r Record) { out = append(out, r) })
	if err != nil {
		t.Fatal(err)
	}
	return out, result
}

func TestRecordedEvents(t *testing.T) {
	type want struct {
		records []string // delivery, account, role, instance, time, the beginning of the agent
		plain   int64    // records without delivered credentials
		skipped map[string]int64
		digests int64
	}
	for name, want := range map[string]want{
		"codeguru.json": {records: []string{"1 123456789012 user-name i-1234567890abcdef0 2020-05-06T18:51:49Z aws-sdk-java/2.9.17 Lin"}},
		"metering.json": {records: []string{"1 123456789012 Alice i-0a1b2c3d859aa775c 2020-07-10T23:06:42Z aws-cli/1.16.102 Python"}},
		"ssm-managed.json": {records: []string{
			"2 123456789012 aws:ec2-instance i-02854e4b 2023-08-27T03:37:15Z Apache-HttpClient/UNAVA"}},
		"guardduty.json": {records: []string{
			"2 111122223333 aws:ec2-instance i-1234123412341234a 2023-03-05T06:03:49Z aws-sdk-rust/0.54.1 os/"}},
		"identity-credentials.json": {plain: 1, records: []string{
			"1 111122223333 aws:ec2-instance i-0bdf91168b50e943e 2024-03-13T14:12:16Z aws-cli/1.29.54 md/Boto"}},
		"ecr-masked.json": {records: []string{
			"1 111122223333 terraform-eks-k8s-node i-053374f60a4d79830 2020-07-24T02:58:00Z AWS Internal"}},
		"lines.jsonl": {records: []string{
			"2 111122223333 instance-profile i-0d4afab1261582ea4 2021-09-24T11:16:34Z kubernetes/v1.18.18 aws",
			"2 111122223333 uat-VpcNatInstanceRole i-08c93cd0f3e081958 2026-01-09T00:15:04Z aws-sdk-go/1.44.260 (go",
			"2 111122223333 eksctl-NodeInstanceRole i-09330a7fbc141a62c 2024-03-30T00:29:59Z aws-cli/2.15.34 Python/",
			"1 111122223333 ecscape-ecs-instance-role i-0b8a4b70736fc8039 2025-07-28T11:55:26Z aws-sdk-rust/1.3.8 os/l",
			"2 111122223333 roleA  2021-06-22T11:09:51Z Boto3/1.17.9 Python/3.8",
		}},
		"digest.json":          {digests: 1},
		"insight.json":         {plain: 1},
		"s3-notification.json": {skipped: map[string]int64{problemForeign: 1}},
		"lookup-answer.json":   {skipped: map[string]int64{problemLookup: 1}},
		"cloudwatch-logs.json": {skipped: map[string]int64{problemForeign: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", "recorded", name))
			if err != nil {
				t.Fatal(err)
			}
			for form, r := range map[string]io.Reader{
				"plain": bytes.NewReader(raw), "gzip": bytes.NewReader(zipped(t, raw)), "byte by byte": iotest.OneByteReader(bytes.NewReader(raw)),
			} {
				records, result := read(t, r)
				var got []string
				for _, r := range records {
					got = append(got, fmt.Sprintf("%d %s %s %s %s %.23s", r.Delivery, r.Account, r.Role, r.Instance, r.At.Format(time.RFC3339), r.Agent))
				}
				if !slices.Equal(got, want.records) {
					t.Errorf("%s: records\n%s\nwant\n%s", form, strings.Join(got, "\n"), strings.Join(want.records, "\n"))
				}
				if result.Records != int64(len(got))+want.plain || result.Digests != want.digests || result.Lost != "" ||
					!maps.Equal(result.Skipped, want.skipped) {
					t.Errorf("%s: %+v, want %+v", form, result, want)
				}
			}
		})
	}
	files, err := filepath.Glob("testdata/recorded/*")
	if err != nil || len(files) != 12 {
		t.Errorf("%d recorded files (%v): each has a row in the table above", len(files), err)
	}
}

func zipped(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// event is a record like CloudTrail's.
func event(id, instance, delivery string, at time.Time, agent string) string {
	ctx := map[string]any{"sessionIssuer": map[string]any{"userName": "app"}}
	if delivery != "" {
		ctx["ec2RoleDelivery"] = delivery
	}
	b, err := json.Marshal(map[string]any{
		"eventVersion": "1.11", "eventTime": at.UTC().Format(time.RFC3339), "eventID": id, "userAgent": agent, "eventName": "GetObject",
		"eventSource": "s3.amazonaws.com", "awsRegion": "eu-west-1", "requestParameters": map[string]any{"key": `a "quoted\" {[ key`},
		"userIdentity": map[string]any{"type": "AssumedRole", "accountId": "111122223333", "sessionContext": ctx,
			"arn": "arn:aws:sts::111122223333:assumed-role/app/" + instance},
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const host = "i-0123456789abcdef0"

func TestWhatIsMalformedIsCountedAndPassed(t *testing.T) {
	good := event("e", host, "1.0", noon, "Boto3/1.9.2")
	strange := strings.Replace(good, `"1.0"`, `"3.0"`, 1)
	noTime := strings.Replace(good, noon.Format(time.RFC3339), "yesterday", 1)
	masked := strings.NewReplacer("assumed-role/app/"+host, "user/x", `"userName":"app"`, `"userName":""`).Replace(good)
	broken := strings.Replace(good, `"eventName":`, `"eventName"`, 1)
	mention := strings.Replace(event("e", host, "", noon, "x"), "quoted", "ec2RoleDelivery", 1)
	huge := `{"eventID":"` + strings.Repeat("x", largestRecord+10) + `"}`
	for name, tc := range map[string]struct {
		text    string
		records int64 // delivered
		plain   int64
		skipped map[string]int64
		lost    bool
	}{
		"an unknown delivery":       {`{"Records":[` + strange + `,` + good + `]}`, 1, 0, map[string]int64{problemDelivery: 1}, false},
		"no time":                   {`{"Records":[` + noTime + `,` + good + `]}`, 1, 0, map[string]int64{problemTime: 1}, false},
		"nobody":                    {`{"Records":[` + masked + `,` + good + `]}`, 1, 0, map[string]int64{problemMasked: 1}, false},
		"a broken record":           {`{"Records":[` + broken + `,` + good + `]}`, 1, 0, map[string]int64{problemNotJSON: 1}, false},
		"the word in a value":       {`{"Records":[` + mention + `,` + good + `]}`, 1, 1, nil, false},
		"foreign records":           {`{"Records":[{"a":1},` + good + `,{"b":{"c":[]}}]}`, 1, 0, map[string]int64{problemForeign: 2}, false},
		"numbers in the list":       {"{\"Records\":[\n1,\n" + good + "]}", 1, 0, map[string]int64{problemNotJSON: 1}, false},
		"other members of the file": {`{"version":1,"Records":[` + good + `],"tail":{"Records":[{}]}}` + "\n" + good, 2, 0, nil, false},
		"a list":                    {`[` + good + `,` + good + `]`, 2, 0, nil, false},
		"an empty file":             {"", 0, 0, nil, false},
		"an empty list":             {`{"Records":[]}`, 0, 0, nil, false},
		"text":                      {"hello\nworld\n" + good + "\n", 1, 0, map[string]int64{problemNotJSON: 2}, false},
		"a line cut off":            {good[:100] + "\n" + good + "\n", 1, 0, map[string]int64{problemNotJSON: 1}, false},
		"a line cut off in a text":  {good[:30] + "\n" + good + "\n", 1, 0, map[string]int64{problemNotJSON: 1}, false},
		"a file cut off":            {`{"Records":[` + good + `,` + good[:100], 1, 0, nil, true},
		"a list without its end":    {`{"Records":[` + good + `,`, 1, 0, nil, true},
		"a huge record":             {`{"Records":[` + huge + `,` + good + `]}`, 1, 0, map[string]int64{problemTooBig: 1}, false},
		"a byte order mark":         {"\ufeff" + good, 1, 0, nil, false},
		"a wrong list of events":    {`{"Events":[{"EventId":"1"}]}`, 0, 0, map[string]int64{problemForeign: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tc.text), bytes.NewReader(zipped(t, []byte(tc.text)))} {
				_, got := read(t, r)
				if got.Delivered != tc.records || got.Records != tc.records+tc.plain || !maps.Equal(got.Skipped, tc.skipped) ||
					(got.Lost != "") != tc.lost {
					t.Errorf("%+v, want %d delivered, %d others, skipped %v, lost %v", got, tc.records, tc.plain, tc.skipped, tc.lost)
				}
			}
		})
	}
}

func TestATruncatedFileIsAGap(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"Records":[`)
	for n := range 500 {
		text.WriteString(event(fmt.Sprint(n), fmt.Sprintf("i-%08x", n*7919), "1.0", noon.Add(time.Duration(n)*time.Second), "aws-cli/1.16.1") + ",")
	}
	text.WriteString(event("last", host, "1.0", noon, "x") + "]}")
	whole := zipped(t, []byte(text.String()))
	for _, cut := range []int{2, 9, 12, len(whole) / 2, len(whole) - 9, len(whole) - 1} {
		records, result := read(t, bytes.NewReader(whole[:cut]))
		if result.Lost == "" {
			t.Errorf("of %d bytes %d were read, and nothing is said to be lost", len(whole), cut)
		}
		if cut > len(whole)/3 && len(records) == 0 {
			t.Errorf("cut at %d of %d: what comes before is lost as well", cut, len(whole))
		}
	}
	damaged := slices.Clone(whole)
	damaged[len(damaged)/2] ^= 0x55
	if _, result := read(t, bytes.NewReader(damaged)); result.Lost == "" {
		t.Error("damaged data are not told")
	}
	if _, result := read(t, io.MultiReader(strings.NewReader(text.String()[:5000]), iotest.ErrReader(errors.New("the disk is on fire")))); !strings.Contains(
		result.Lost, "the disk is on fire") || result.Delivered == 0 {
		t.Errorf("an error of the reader: %+v", result)
	}
}

func TestReadingStopsWithItsContext(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Read(ctx, strings.NewReader(`{"Records":[]}`), Span{}, func(Record) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Any records, in any of the forms, in pieces of any size, are found again, each with its own text.
func TestSplittingProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var parts []string
		for range rapid.IntRange(0, 20).Draw(rt, "records") {
			v := map[string]any{"eventID": rapid.StringN(0, 30, -1).Draw(rt, "id"),
				"x": rapid.SliceOfN(rapid.StringOf(rapid.RuneFrom([]rune(`\"{}[],:`+"\n aé"))), 0, 4).Draw(rt, "x")}
			b, err := json.Marshal(v)
			if err != nil {
				rt.Fatal(err)
			}
			parts = append(parts, string(b))
		}
		text := map[string]string{
			"list":     "[" + strings.Join(parts, ",") + "]",
			"envelope": `{"a":{"Records":[1,{"b":2}]},"Records" : [` + strings.Join(parts, " ,\n") + `],"z":[{}]}`,
			"lines":    strings.Join(parts, "\n"),
		}[rapid.SampledFrom([]string{"list", "envelope", "lines"}).Draw(rt, "form")]
		s := newSplitter(iotest.OneByteReader(strings.NewReader(text)))
		s.buf = make([]byte, rapid.IntRange(1, 64).Draw(rt, "window"))
		var got []string
		for {
			raw, problem, err := s.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if problem != "" || err != nil {
				rt.Fatalf("%q: problem %q, error %v", text, problem, err)
			}
			got = append(got, string(raw))
		}
		if !slices.Equal(got, parts) {
			rt.Fatalf("%q\ngot  %q\nwant %q", text, got, parts)
		}
	})
}

// A file of any size takes the memory of its largest record.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("left out by -short: it reads 400 MB")
	}
	one := event("e", host, "1.0", noon, "Boto3/1.9.2") + ","
	const size = 400 << 20
	body := io.MultiReader(strings.NewReader(`{"Records":[`), io.LimitReader(&repeat{[]byte(one), 0}, size/int64(len(one))*int64(len(one))),
		strings.NewReader(one[:len(one)-1]+"]}"))
	var most, before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := 0
	tally := NewTally(nil, Bounds{})
	result, err := Read(t.Context(), body, Span{}, func(r Record) {
		tally.Add(r)
		if n++; n%100_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&most)
			if grown := int64(most.HeapInuse) - int64(before.HeapInuse); grown > 16<<20 {
				t.Fatalf("%d bytes more are in use after %d records", grown, n)
			}
		}
	})
	if err != nil || result.Lost != "" || result.Delivered < size/int64(len(one)) || tally.Len() != 1 {
		t.Errorf("%+v, %v, %d counts", result, err, tally.Len())
	}
}

type repeat struct {
	text []byte
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], r.text[r.at:])
		n, r.at = n+k, (r.at+k)%len(r.text)
	}
	return n, nil
}

// Whatever a file holds, reading ends, says nothing that cannot be, and finds the same in pieces of another size.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/recorded/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(zipped(f, raw))
		f.Add(raw[:len(raw)/2])
	}
	f.Add([]byte(`{"Records":[{"userIdentity":{"sessionContext":{"ec2RoleDelivery":"1.0"},"arn":"::::::"},"eventTime":"9999-12-31T23:59:59Z"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		records, result := read(t, bytes.NewReader(data))
		if int64(len(records)) != result.Delivered || result.Delivered > result.Records {
			t.Fatalf("%d records, %+v", len(records), result)
		}
		for _, r := range records {
			if r.Instance == "" && (r.Role == "" || r.Account == "") || r.Account != "" && !r.Account.Valid() ||
				r.Instance != "" && !instancePattern.MatchString(r.Instance) || r.Delivery != V1 && r.Delivery != V2 ||
				len(r.Agent) > LongestAgent || strings.ContainsFunc(r.Agent, unprintable) || r.At.IsZero() {
				t.Fatalf("a record that cannot be: %+v", r)
			}
		}
		again, other := read(t, iotest.OneByteReader(bytes.NewReader(data)))
		if !slices.Equal(records, again) || result.Records != other.Records || !maps.Equal(result.Skipped, other.Skipped) {
			t.Fatalf("in one piece %+v, byte by byte %+v", result, other)
		}
	})
}
