package evidence

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/jsonlines"
)

// all gathers what a findings file holds.
func all(r io.Reader) (FileHeader, []Finding, error) {
	h, findings, err := ReadFindings(r, "findings.jsonl")
	if err != nil {
		return h, nil, err
	}
	var out []Finding
	for f, err := range findings {
		if err != nil {
			return h, out, err
		}
		out = append(out, f)
	}
	return h, out, nil
}

func TestFindingsRoundTrip(t *testing.T) {
	subjects := []Subject{{Kind: "ec2-instance", ID: "i-1"}, {Account: "111122223333", Kind: SubjectRole, ID: "web"}, {Kind: SubjectTag, ID: "a=<b>\n"}}
	rapid.Check(t, func(t *rapid.T) {
		day := noon.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "hours")) * time.Hour)
		h := FileHeader{Source: rapid.SampledFrom([]Source{SourceTrace, SourceSoftware}).Draw(t, "source"), Made: noon, Origin: "host é",
			From: noon.Add(-time.Hour), To: noon, Sample: rapid.Bool().Draw(t, "sample")}
		if rapid.Bool().Draw(t, "one subject") {
			h.Subject = subjects[0]
		}
		var want []Finding
		for range rapid.IntRange(0, 20).Draw(t, "findings") {
			f := Finding{Subject: rapid.SampledFrom(subjects).Draw(t, "subject"), Detail: rapid.StringN(0, 40, -1).Draw(t, "detail"),
				Product: "botocore", Count: 1, First: day, Last: day.Add(time.Minute),
				What: rapid.SampledFrom([]What{WhatV1Call, WhatSoftware, WhatCertified}).Draw(t, "what")}
			if strings.ContainsRune(f.Detail, 0) {
				f.Detail = ""
			}
			f.Source, f.Origin, f.Sample = h.Source, h.Origin, h.Sample
			want = append(want, f)
		}
		var file bytes.Buffer
		if err := WriteFindings(&file, h, slices.Values(want)); err != nil {
			t.Fatal(err)
		}
		got, findings, err := all(&file)
		if err != nil {
			t.Fatal(err)
		}
		h.Format, h.Version = FormatFindings, 1
		if got != h || !slices.Equal(findings, want) {
			t.Fatalf("got %+v %+v, want %+v %+v", got, findings, h, want)
		}
	})
}

const header = `{"format":"imdsctl-findings","version":1,"source":"software","made":"2026-11-20T12:00:00Z","subject":{"kind":"ami","id":"ami-1"}}`

func TestFindingsErrors(t *testing.T) {
	for name, tc := range map[string]struct{ file, want string }{
		"empty":           {"", "findings.jsonl is empty"},
		"another format":  {`{"a":1}`, "is no findings file"},
		"no JSON":         {"hello", "is no findings file"},
		"another version": {`{"format":"imdsctl-findings","version":2}`, "version 2"},
		"no source":       {`{"format":"imdsctl-findings","version":1,"source":"cloudwatch"}`, `findings.jsonl:1: "cloudwatch" is no source`},
		"a line":          {header + "\n\n{\"what\":\"software\"}\n{\"what\":\n", "findings.jsonl:4: "},
		"a field":         {header + "\n{\"what\":\"software\",\"hoplimit\":2}", "findings.jsonl:2: "},
		"two on a line":   {header + "\n{\"what\":\"software\"} {}", "more than one"},
		"unknown what":    {header + "\n{\"what\":\"odd\"}", `"odd" is nothing that can be found`},
		"calls":           {header + "\n{\"what\":\"v1-call\",\"count\":3}", "the time of the first call"},
		"negative":        {header + "\n{\"what\":\"v1-call\",\"count\":-3}", "no count"},
		"hop limit":       {header + "\n{\"what\":\"certified\",\"hop_limit\":65,\"first\":\"2026-01-01T00:00:00Z\"}", "no hop limit"},
		"ends first":      {header + "\n{\"what\":\"software\",\"first\":\"2026-01-02T00:00:00Z\",\"last\":\"2026-01-01T00:00:00Z\"}", "before it was first"},
		"two days":        {header + "\n{\"what\":\"v1-call\",\"count\":1,\"first\":\"2026-01-01T00:00:00Z\",\"last\":\"2026-01-03T00:00:00Z\"}", "by day"},
		"long":            {header + "\n" + strings.Repeat(" ", jsonlines.MaxLine+1), "longer than"},
		"before":          {header + "\n{\"what\":\"software\",\"first\":\"0101-01-01T00:00:00Z\"}", "no time"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := all(strings.NewReader(tc.file))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q in it", err, tc.want)
			}
		})
	}
}

func TestFindingsOfADiskThatFails(t *testing.T) {
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader(header+"\n{\"what\":\"software\"}\n"), failing{broken})
	h, findings, err := all(r)
	if !errors.Is(err, broken) || len(findings) != 1 || h.Subject.ID != "ami-1" || findings[0].Subject != h.Subject {
		t.Errorf("%+v %+v %v", h, findings, err)
	}
	if err := WriteFindings(full{broken}, FileHeader{Source: SourceTrace}, func(func(Finding) bool) {}); !errors.Is(err, broken) {
		t.Errorf("written to a full disk: %v", err)
	}
	bad := slices.Values([]Finding{{What: WhatSoftware}})
	if err := WriteFindings(io.Discard, FileHeader{Source: SourceTrace}, bad); err == nil {
		t.Error("a finding without a subject was written")
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, f.err }

// FuzzReadFindings: whatever a file holds, what is read of it can be kept, and written, and is read the same.
func FuzzReadFindings(f *testing.F) {
	f.Add([]byte(header + "\n{\"what\":\"software\",\"product\":\"botocore\",\"version\":\"1.9.2\"}\n"))
	f.Add([]byte(header + "\n{\"what\":\"v1-call\",\"count\":3,\"first\":\"2026-01-01T00:00:00Z\",\"subject\":{\"kind\":\"tag\",\"id\":\"a=b\"}}"))
	f.Add([]byte("\n" + header))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, file []byte) {
		h, findings, err := all(bytes.NewReader(file))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "findings.jsonl") {
				t.Fatalf("%v does not name the file", err)
			}
			return
		}
		var again bytes.Buffer
		if err := WriteFindings(&again, h, slices.Values(findings)); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		h2, findings2, err := all(&again)
		if err != nil || !h.equal(h2) || len(findings) != len(findings2) {
			t.Fatalf("read again: %v\n%+v\n%+v", err, h, h2)
		}
		for i, want := range findings {
			if CompareFindings(want, findings2[i]) != 0 {
				t.Fatalf("%+v, want %+v", findings2[i], want)
			}
		}
	})
}

func (h FileHeader) equal(o FileHeader) bool {
	same := h.Made.Equal(o.Made) && h.From.Equal(o.From) && h.To.Equal(o.To)
	h.Made, h.From, h.To = o.Made, o.From, o.To
	return same && h == o
}
