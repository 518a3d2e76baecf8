package tracer_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/tracer"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

var python = tracer.Process{PID: 7, Comm: "python3", Exe: "/usr/bin/python3", Args: []string{"python3", "billing.py"},
	Cgroup: "/system.slice/billing.service"}

// heard is an assembler and the calls that it told.
type heard struct {
	*tracer.Assembler
	calls []tracer.Call
}

func listen(o tracer.AssemblerOptions) *heard {
	h := &heard{}
	h.Assembler = tracer.NewAssembler(o, func(c tracer.Call) { h.calls = append(h.calls, c) })
	return h
}

// told are the calls in short.
func (h *heard) told() (out []string) {
	for _, c := range h.calls {
		out = append(out, short(c.Version, c.Method, c.Path, c.UserAgent))
	}
	return out
}

func short(v tracer.Version, method, path, agent string) string {
	return fmt.Sprintf("%s %s %s %s", v, method, path, agent)
}

// one sends a text on one connection, a piece at a time, and gives the calls.
func one(pieces ...string) *heard {
	h := listen(tracer.AssemblerOptions{})
	h.Connected(tracer.Connect{Socket: 1, Time: noon, From: python})
	seq := uint32(4294967290)
	h.Sent(tracer.Segment{Socket: 1, Time: noon, Seq: seq})
	for _, p := range pieces {
		h.Sent(tracer.Segment{Socket: 1, Time: noon, Seq: seq, Bytes: []byte(p)})
		seq += uint32(len(p))
	}
	h.Close()
	return h
}

const tokenText = "AQAEALSqhAWXf0D0IDNsGGcpdbmqbRRyLgCXsiV2NrLKUnGeGRkIww=="

// TestHeadersAreHeaders: what tells a version is a header, however it is written, and nothing else is one.
func TestHeadersAreHeaders(t *testing.T) {
	const get = "GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n"
	tests := map[string]struct {
		send string
		want []string
	}{
		"nothing":                     {get + "\r\n", []string{"v1 GET /latest/meta-data/ "}},
		"a token":                     {get + "X-aws-ec2-metadata-token: " + tokenText + "\r\n\r\n", []string{"v2 GET /latest/meta-data/ "}},
		"in lower case":               {get + "x-aws-ec2-metadata-token: a\r\n\r\n", []string{"v2 GET /latest/meta-data/ "}},
		"in capitals":                 {get + "X-AWS-EC2-METADATA-TOKEN:a\r\n\r\n", []string{"v2 GET /latest/meta-data/ "}},
		"empty":                       {get + "x-aws-ec2-metadata-token:\r\n\r\n", []string{"v2 GET /latest/meta-data/ "}},
		"folded":                      {get + "x-aws-ec2-metadata-token:\r\n  a\r\n\r\n", []string{"v2 GET /latest/meta-data/ "}},
		"a TTL on GET":                {get + "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n", []string{"v2 GET /latest/meta-data/ "}},
		"bare line feeds":             {"GET /x HTTP/1.1\nx-aws-ec2-metadata-token: a\n\n", []string{"v2 GET /x "}},
		"bare line feeds, v1":         {"GET /x HTTP/1.1\nHost: a\n\n", []string{"v1 GET /x "}},
		"PUT alone":                   {"PUT /latest/api/token HTTP/1.1\r\n\r\n", []string{"v2 PUT /latest/api/token "}},
		"put is another method":       {"put /latest/api/token HTTP/1.1\r\n\r\n", []string{"v1 put /latest/api/token "}},
		"in the path":                 {"GET /x-aws-ec2-metadata-token:a HTTP/1.1\r\n\r\n", []string{"v1 GET /x-aws-ec2-metadata-token:[redacted] "}},
		"in the query":                {"GET /a?x-aws-ec2-metadata-token: a HTTP/1.1\r\n\r\n", []string{"v1 GET /a "}},
		"in another header's value":   {get + "X-Note: x-aws-ec2-metadata-token: a\r\n\r\n", []string{"v1 GET /latest/meta-data/ "}},
		"folded into another header":  {get + "X-Note: b\r\n x-aws-ec2-metadata-token: a\r\n\r\n", []string{"v1 GET /latest/meta-data/ "}},
		"as the end of another name":  {get + "Not-x-aws-ec2-metadata-token: a\r\n\r\n", []string{"v1 GET /latest/meta-data/ "}},
		"as the beginning of another": {get + "x-aws-ec2-metadata-tokens: a\r\n\r\n", []string{"v1 GET /latest/meta-data/ "}},
		"with a Kelvin sign for k":    {get + "x-aws-ec2-metadata-to\u212Aen: a\r\n\r\n", []string{"v1 GET /latest/meta-data/ "}},
		"with a long s":               {get + "x-aw\u017f-ec2-metadata-token: a\r\n\r\n", []string{"v1 GET /latest/meta-data/ "}},
		"before the headers, folded":  {"GET /x HTTP/1.1\r\n x-aws-ec2-metadata-token: a\r\n\r\n", []string{"v1 GET /x "}},
		"with a blank behind it":      {get + "x-aws-ec2-metadata-token : a\r\n\r\n", []string{"unknown GET /latest/meta-data/ "}},
		"without a colon":             {get + "x-aws-ec2-metadata-token\r\n\r\n", []string{"unknown GET /latest/meta-data/ "}},
		"in the body": {"POST /x HTTP/1.1\r\nContent-Length: 30\r\n\r\n\r\nx-aws-ec2-metadata-token: a\r\n" + get + "\r\n",
			[]string{"v1 POST /x ", "v1 GET /latest/meta-data/ "}},
		"behind the head": {"GET /x HTTP/1.1\r\n\r\nx-aws-ec2-metadata-token: a\r\n\r\n" + get + "\r\n",
			[]string{"v1 GET /x ", "not-http   ", "v1 GET /latest/meta-data/ "}},
		"v1 pipelined behind v2": {"GET /a HTTP/1.1\r\nx-aws-ec2-metadata-token: a\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
			[]string{"v2 GET /a ", "v1 GET /b "}},
		"behind a PUT with a body": {"PUT /latest/api/token HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\n\r\n",
			[]string{"v2 PUT /latest/api/token ", "v1 GET /b "}},
		"behind chunks": {"PUT /t HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n5;a=b\r\nGET /\r\n0\r\nX-Trailer: a\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
			[]string{"v2 PUT /t ", "v1 GET /b "}},
		"a request within a body": {"POST /t HTTP/1.1\r\nContent-Length: 19\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n",
			[]string{"v1 POST /t ", "v1 GET /c "}},
		"the body that was not sent": {"PUT /t HTTP/1.1\r\nContent-Length: 2000\r\nExpect: 100-Continue\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
			[]string{"v2 PUT /t ", "v1 GET /b "}},
		"the body that was sent": {"PUT /t HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET /b HTTP/1.1\r\n\r\n",
			[]string{"v2 PUT /t ", "v1 GET /b "}},
		"a length that is none": {"POST /t HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello\r\nGET /b HTTP/1.1\r\n\r\n", []string{"v1 POST /t ", "v1 GET /b "}},
		"two lengths": {"POST /t HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\n\r\n",
			[]string{"v1 POST /t ", "v1 GET /b "}},
		"empty lines before":     {"\r\n\nGET /b HTTP/1.1\r\n\r\n", []string{"v1 GET /b "}},
		"HTTP/0.9":               {"GET /latest/meta-data/\r\n\r\n", []string{"v1 GET /latest/meta-data/ "}},
		"HTTP/1.0":               {"GET /b HTTP/1.0\r\n\r\n", []string{"v1 GET /b "}},
		"blanks between":         {"GET   /b \t HTTP/1.1  \r\n\r\n", []string{"v1 GET /b "}},
		"the whole address":      {"GET http://169.254.169.254/b?c HTTP/1.1\r\n\r\n", []string{"v1 GET /b "}},
		"a blank in the path":    {"GET /b c HTTP/1.1\r\n\r\n", []string{"v1 GET /b c "}},
		"an escaped path":        {"GET /latest%2Fmeta-data HTTP/1.1\r\n\r\n", []string{"v1 GET /latest/meta-data "}},
		"a user agent":           {"GET /b HTTP/1.1\r\nUSER-agent:  Boto3/1.9.2\r\n Botocore/1.12.2 \r\n\r\n", []string{"v1 GET /b Boto3/1.9.2 Botocore/1.12.2"}},
		"a token in the path":    {"GET /latest/" + tokenText + "/x HTTP/1.1\r\n\r\n", []string{"v1 GET /latest/[redacted]/x "}},
		"an escaped one":         {"GET /a" + strings.ReplaceAll(tokenText, "=", "%3D") + " HTTP/1.1\r\n\r\n", []string{"v1 GET /a[redacted] "}},
		"a token as user agent":  {"GET /b HTTP/1.1\r\nUser-Agent: " + tokenText + "\r\n\r\n", []string{"v1 GET /b [redacted]"}},
		"tabs between":           {"GET\t/b\tHTTP/1.1\r\nHost: a\r\n\r\n", []string{"v1 GET /b "}},
		"other blanks":           {"GET\v/b\f\rHTTP/1.1\r\nx-aws-ec2-metadata-token: a\r\n\r\n", []string{"v2 GET /b "}},
		"a blank before":         {" \tGET /b HTTP/1.1\r\nHost: a\r\n\r\n", []string{"v1 GET /b "}},
		"an odd version":         {"GET /b HTTP/1.10\r\n\r\nGET /c http/1.1\r\n\r\n", []string{"v1 GET /b ", "v1 GET /c "}},
		"no version, and blanks": {"GET /b c\r\n\r\nGET /d HTTP/1.1\r\n\r\n", []string{"unknown GET /b c ", "v1 GET /d "}},
		"a version that is none": {"get /b HTTQ/1.1\r\nx-aws-ec2-metadata-token: a\r\n\r\n", []string{"unknown get /b HTTQ/1.1 "}},
		"TLS":                    {"\x16\x03\x01\x02\x00\x01\x00", []string{"not-http   "}},
		"HTTP/2":                 {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00", []string{"not-http   "}},
		"nonsense, then a call":  {"hello\r\nthere\r\nGET /b HTTP/1.1\r\n\r\n", []string{"not-http   ", "v1 GET /b "}},
		"cut off in the headers": {get, []string{"unknown GET /latest/meta-data/ "}},
		"cut off, with a token":  {get + "x-aws-ec2-metadata-token: a\r\n", []string{"v2 GET /latest/meta-data/ "}},
		"cut off in a name":      {get + "x-aws-ec2-metadata-tok", []string{"unknown GET /latest/meta-data/ "}},
		"cut off in the path":    {"GET /latest/me", []string{"unknown GET /latest/ "}},
		"cut off in the method":  {"GE", []string{"unknown   "}},
		"nothing but blank":      {"\r\n", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			whole := one(test.send)
			if got := whole.told(); !slices.Equal(got, test.want) {
				t.Errorf("%q\n gives %q\n want  %q", test.send, got, test.want)
			}
			for i := range whole.calls {
				if c := whole.calls[i]; (c.Version == tracer.Unknown || c.Version == tracer.NotHTTP) && c.Why == "" {
					t.Errorf("%+v does not say why", c)
				}
			}
			if got := one(strings.Split(test.send, "")...).told(); !slices.Equal(got, test.want) {
				t.Errorf("byte by byte it gives %q", got)
			}
		})
	}
}

// TestHugeHeads: a head of any size is read, with what tells its version at its end.
func TestHugeHeads(t *testing.T) {
	for _, size := range []int{64 << 10, 5 << 20} {
		many := strings.Repeat("X-Filler: "+strings.Repeat("x", 50)+"\r\n", size/62)
		long := "X-Long: " + strings.Repeat("GET /no HTTP/1.1 ", size/17) + "\r\n"
		for name, filler := range map[string]string{"many lines": many, "a long line": long, "a long folded one": "X-A: b\r\n" + strings.Repeat(" c: d\r\n", size/7)} {
			h := one("GET /a HTTP/1.1\r\n"+filler+"x-aws-ec2-metadata-token: a\r\n\r\n", "GET /b HTTP/1.1\r\n"+filler+"\r\n")
			if want := []string{"v2 GET /a ", "v1 GET /b "}; !slices.Equal(h.told(), want) {
				t.Errorf("%s of %d bytes: %q", name, size, h.told())
			}
		}
		h := one("GET /latest/" + strings.Repeat("y", size) + "?" + tokenText + " HTTP/1.1\r\nx-aws-ec2-metadata-token: a\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
		if len(h.calls) != 2 || h.calls[0].Version != tracer.V2 || h.calls[0].Path != "/latest/" || h.calls[1].Path != "/b" {
			t.Errorf("a path of %d bytes: %.100q", size, h.told())
		}
	}
}

// dialogue is what one connection asks, and what is to be told of it.
type dialogue struct {
	stream []byte
	want   []string
}

// someRequests draws requests that follow one another on a connection.
func someRequests(t *rapid.T) (d dialogue) {
	for range rapid.IntRange(1, 6).Draw(t, "requests") {
		method := rapid.SampledFrom([]string{"GET", "GET", "GET", "PUT", "HEAD", "POST", "OPTIONS", "FETCH"}).Draw(t, "method")
		path := "/latest/" + rapid.StringMatching(`[a-z/-]{0,12}`).Draw(t, "path")
		eol := rapid.SampledFrom([]string{"\r\n", "\r\n", "\n"}).Draw(t, "line end")
		headers := []string{"Host: 169.254.169.254"}
		version, agent := tracer.V1, ""
		if method == "PUT" {
			version = tracer.V2
		}
		header := func(name, text string) {
			if rapid.Bool().Draw(t, "capitals") {
				name = strings.ToUpper(name)
			}
			headers = append(headers, name+rapid.SampledFrom([]string{": ", ":", ":\t", ":" + eol + " "}).Draw(t, "colon")+text)
		}
		if rapid.IntRange(0, 2).Draw(t, "token") == 0 {
			header("X-aws-ec2-metadata-token", tokenText)
			version = tracer.V2
		}
		if rapid.IntRange(0, 5).Draw(t, "TTL") == 0 {
			header("X-aws-ec2-metadata-token-ttl-seconds", "60")
			version = tracer.V2
		}
		if rapid.Bool().Draw(t, "agent") {
			agent = rapid.SampledFrom([]string{"curl/8.1", "Boto3/1.9.2 Botocore/1.12.2", "x-aws-ec2-metadata-token: a", "Mein Rechner"}).Draw(t, "agent")
			header("User-Agent", agent)
		}
		headers = append(headers, rapid.SliceOfN(rapid.SampledFrom([]string{"Accept: */*", "X-Note: GET /no HTTP/1.1",
			"Y: x-aws-ec2-metadata-token: b", "X-Long: " + strings.Repeat("z", 3000), "Z: a" + eol + " x-aws-ec2-metadata-token: c"}), 0, 3).Draw(t, "more")...)
		body := ""
		if text := rapid.SampledFrom([]string{"", "", "hello", "GET /no HTTP/1.1\r\n\r\n", "\r\n"}).Draw(t, "body"); text != "" {
			if rapid.Bool().Draw(t, "chunked") {
				headers = append(headers, "Transfer-Encoding: chunked")
				for _, c := range text {
					body += "1\r\n" + string(c) + "\r\n"
				}
				body += "0\r\n\r\n"
			} else {
				headers = append(headers, fmt.Sprint("Content-Length: ", len(text)))
				body = text
			}
		}
		order := rapid.Permutation(headers).Draw(t, "order")
		d.stream = append(d.stream, method+" "+path+" HTTP/1.1"+eol+strings.Join(order, eol)+eol+eol+body...)
		shown := strings.ReplaceAll(agent, "token: a", "token: [redacted]")
		d.want = append(d.want, short(version, method, path, shown))
	}
	return d
}

// segments cuts a stream into pieces that overlap, come twice and, where they may, in any order.
func segments(t *rapid.T, stream []byte, shuffled bool) (out []tracer.Segment) {
	first := rapid.SampledFrom([]uint32{0, 1, 4294967295, 4294967290, 1 << 31, 77}).Draw(t, "sequence")
	for at := 0; at < len(stream); {
		n := rapid.SampledFrom([]int{1, 2, 3, 7, 40, 200, 1460}).Draw(t, "size")
		n = min(n, len(stream)-at)
		back := min(at, rapid.SampledFrom([]int{0, 0, 0, 1, 5, 50}).Draw(t, "overlap"))
		out = append(out, tracer.Segment{Socket: 3, Time: noon, Seq: first + uint32(at-back), Bytes: stream[at-back : at+n]})
		at += n
	}
	for range rapid.IntRange(0, 4).Draw(t, "twice") {
		s := out[rapid.IntRange(0, len(out)-1).Draw(t, "which")]
		out = append(out, s)
	}
	if shuffled {
		seed := rapid.Uint64().Draw(t, "order")
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	}
	return out
}

// TestAnySegmentation: whatever is sent, and in whatever pieces it comes, repeated and out of order, the calls are the same.
func TestAnySegmentation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := someRequests(t)
		h := listen(tracer.AssemblerOptions{})
		pieces := segments(t, d.stream, true)
		h.Connected(tracer.Connect{Socket: 3, Time: noon, From: python})
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0: // all at once, and then nothing
			for _, s := range pieces {
				h.Sent(s)
			}
			h.Flush(noon.Add(time.Second))
		case 1: // slowly, from a beginning that is known
			low := slices.MinFunc(pieces, func(a, b tracer.Segment) int { return int(int32(a.Seq - b.Seq)) }).Seq
			h.Sent(tracer.Segment{Socket: 3, Time: noon, Seq: low})
			for i, s := range pieces {
				s.Time = noon.Add(time.Duration(i) * time.Second / time.Duration(len(pieces)))
				h.Sent(s)
				h.Flush(s.Time)
			}
		case 2: // in order, over hours
			slices.SortStableFunc(pieces, func(a, b tracer.Segment) int { return int(int32(a.Seq - b.Seq)) })
			for i, s := range pieces {
				s.Time = noon.Add(time.Duration(i) * time.Minute)
				h.Sent(s)
				h.Flush(s.Time.Add(time.Second))
			}
		}
		if got := h.told(); !slices.Equal(got, d.want) {
			t.Fatalf("%q\ngives %q\nwant  %q", d.stream, got, d.want)
		}
		h.Close()
		if len(h.calls) != len(d.want) || len(h.Losses()) > 0 {
			t.Fatalf("at the end: %q, lost %v", h.told(), h.Losses())
		}
		for _, c := range h.calls {
			if c.Why != "" || c.Process.Exe != python.Exe || c.Place.Unit != "billing.service" {
				t.Fatalf("%+v", c)
			}
		}
	})
}

// TestMissingBytes: where bytes are missing, either nothing of a request was in them, or the loss is told; and what is told without a
// doubt is right.
func TestMissingBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := someRequests(t)
		h := listen(tracer.AssemblerOptions{})
		h.Connected(tracer.Connect{Socket: 3, Time: noon, From: python})
		pieces := segments(t, d.stream, false)
		h.Sent(tracer.Segment{Socket: 3, Time: noon, Seq: pieces[0].Seq})
		missing := 0
		for i, s := range pieces {
			s.Time = noon.Add(time.Duration(i) * time.Minute)
			switch rapid.IntRange(0, 9).Draw(t, "lost") {
			case 0:
				missing++
				continue
			case 1:
				missing++
				n := rapid.IntRange(0, len(s.Bytes)-1).Draw(t, "kept")
				s.Bytes, s.Missing = s.Bytes[:n], len(s.Bytes)-n
			}
			h.Sent(s)
			h.Flush(s.Time)
		}
		h.Flush(noon.Add(2 * time.Hour))
		h.Close()
		whole := slices.Equal(h.told(), d.want)
		doubtful := slices.ContainsFunc(h.calls, func(c tracer.Call) bool { return c.Why != "" })
		if lost := len(h.Losses()) > 0; !whole && !lost && !doubtful && missing == 0 {
			t.Fatalf("%q became %q, and nothing is said", d.want, h.told())
		} else if lost && missing == 0 {
			t.Fatalf("nothing is missing, and it says %v", h.Losses())
		}
		for _, c := range h.calls {
			if c.Why == "" && c.Version == tracer.V2 && !slices.Contains(d.want, short(c.Version, c.Method, c.Path, c.UserAgent)) {
				t.Fatalf("of %q it tells %+v", d.want, c)
			}
		}
	})
}

// TestLossesAreTold: a hole within a head is a loss and makes its version unknown, one within a body is none.
func TestLossesAreTold(t *testing.T) {
	send := func(parts ...any) *heard {
		h := listen(tracer.AssemblerOptions{})
		h.Connected(tracer.Connect{Socket: 3, Time: noon, From: python})
		h.Sent(tracer.Segment{Socket: 3, Time: noon, Seq: 1})
		seq := uint32(1)
		for _, p := range parts {
			switch p := p.(type) {
			case int:
				seq += uint32(p)
			case string:
				h.Sent(tracer.Segment{Socket: 3, Time: noon, Seq: seq, Bytes: []byte(p)})
				seq += uint32(len(p))
			}
		}
		h.Flush(noon.Add(time.Second))
		h.Flush(noon.Add(4 * time.Second))
		return h
	}
	tests := []struct {
		name  string
		parts []any
		want  []string
		lost  int
	}{
		{"in a head", []any{"GET /a HTTP/1.1\r\nHost: x\r\nX-", 30, "b\r\n\r\nGET /b HTTP/1.1\r\n\r\n"}, []string{"unknown GET /a ", "v1 GET /b "}, 1},
		{"behind the token", []any{"GET /a HTTP/1.1\r\nX-aws-ec2-metadata-token: c\r\n", 30, "b\r\n\r\nGET /b HTTP/1.1\r\n\r\n"},
			[]string{"v2 GET /a ", "v1 GET /b "}, 1},
		{"in a body", []any{"POST /a HTTP/1.1\r\nContent-Length: 10\r\n\r\n12", 6, "90GET /b HTTP/1.1\r\n\r\n"}, []string{"v1 POST /a ", "v1 GET /b "}, 0},
		{"beyond a body", []any{"POST /a HTTP/1.1\r\nContent-Length: 10\r\n\r\n12", 9, "/b HTTP/1.1\r\n\r\n"}, []string{"v1 POST /a ", "unknown   "}, 1},
		{"between requests", []any{"GET /a HTTP/1.1\r\n\r\n", 5, " /b HTTP/1.1\r\nX-aws-ec2-metadata-token: c\r\n\r\n"}, []string{"v1 GET /a ", "v2   "}, 1},
	}
	for _, test := range tests {
		h := send(test.parts...)
		if !slices.Equal(h.told(), test.want) || len(h.Losses()) != test.lost {
			t.Errorf("%s: %q, lost %v", test.name, h.told(), h.Losses())
		}
	}
	h := send("GET /a HTTP/1.1\r\n")
	h.Sent(tracer.Segment{Socket: 3, Time: noon, Seq: 18, Bytes: []byte("X: "), Missing: 40_000})
	h.Flush(noon.Add(10 * time.Second))
	h.Flush(noon.Add(20 * time.Second))
	if want := []string{"unknown GET /a "}; !slices.Equal(h.told(), want) || len(h.Losses()) != 1 {
		t.Errorf("at the end of what was sent: %q, lost %v", h.told(), h.Losses())
	}
	h.Lost(12, "the buffer was full")
	h.Lost(3, "the buffer was full")
	if l := h.Losses(); len(l) != 2 || l[1].Events != 15 {
		t.Errorf("losses %v", l)
	}
}

// TestOlderConnections: on a connection that the trace did not see begin, the first line may be the rest of one.
func TestOlderConnections(t *testing.T) {
	tests := map[string][]string{
		"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n":                                            {"v1 GET /a ", "v1 GET /b "},
		"a-token: x\r\nAccept: b\r\n\r\nGET /b HTTP/1.1\r\n\r\n":                                    {"unknown   ", "v1 GET /b "},
		"T /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n":                                              {"unknown   ", "v1 GET /b "},
		"/a HTTP/1.1\r\nx-aws-ec2-metadata-token: c\r\n\r\nGET /b HTTP/1.1\r\n\r\n":                 {"v2   ", "v1 GET /b "},
		"T /a HTTP/1.1\r\nx-aws-ec2-metadata-token: c\r\n\r\nGET /b HTTP/1.1\r\n\r\n":               {"v2   ", "v1 GET /b "},
		"\r\n\r\nGET /b HTTP/1.1\r\n\r\n":                                                           {"unknown   ", "v1 GET /b "},
		"\x16\x03\x01":                                                                              {"unknown   "},
		"x-aws-ec2-metadata-token: c\r\n\r\nGET /b HTTP/1.1\r\nx-aws-ec2-metadata-token: d\r\n\r\n": {"unknown   ", "v2 GET /b "},
	}
	for send, want := range tests {
		for _, pieces := range [][]string{{send}, strings.Split(send, "")} {
			h := listen(tracer.AssemblerOptions{})
			seq := uint32(5)
			for _, p := range pieces {
				h.Sent(tracer.Segment{Socket: 9, Time: noon, Seq: seq, Bytes: []byte(p), Sender: &python})
				seq += uint32(len(p))
			}
			h.Close()
			if got := h.told(); !slices.Equal(got, want) {
				t.Errorf("%q gives %q, want %q", send, got, want)
			}
			if c := h.calls[0]; c.Why == "" || c.Process.PID != python.PID {
				t.Errorf("%q: the first is %+v", send, c)
			}
		}
	}
}

// TestWhoseCallItIs: the sender, where the capture is sure of it, and beside it who connected.
func TestWhoseCallItIs(t *testing.T) {
	const get = "GET /a HTTP/1.1\r\n\r\n"
	sh := tracer.Process{PID: 9, Comm: "sh", Exe: "/bin/sh", Args: []string{"sh", "-c", "curl -H 'X-aws-ec2-metadata-token: " + tokenText + "' x"}}
	guess := tracer.Process{PID: 11, Comm: "who", Guessed: true}
	tests := []struct {
		name           string
		from, sender   *tracer.Process
		pid, connected int
		why            bool
	}{
		{"who connected", &python, nil, 7, 0, false},
		{"another sends", &python, &sh, 9, 7, false},
		{"the same sends", &python, &tracer.Process{PID: 7, Comm: "pool-1"}, 7, 0, false},
		{"a guess counts less", &python, &guess, 7, 0, false},
		{"and more than nothing", nil, &guess, 11, 0, true},
		{"nobody", nil, nil, 0, 0, true},
	}
	for _, test := range tests {
		h := listen(tracer.AssemblerOptions{})
		if test.from != nil {
			h.Connected(tracer.Connect{Socket: 2, Time: noon, From: *test.from})
		}
		h.Sent(tracer.Segment{Socket: 2, Time: noon, Seq: 5, Bytes: []byte(get), Sender: test.sender})
		h.Close()
		c := h.calls[0]
		connected := 0
		if c.Connected != nil {
			connected = c.Connected.PID
		}
		if c.Process.PID != test.pid || connected != test.connected || (c.Why != "") != test.why {
			t.Errorf("%s: %+v, connected %+v, why %q", test.name, c.Process, c.Connected, c.Why)
		}
		if test.pid == 7 && c.Process.Exe != python.Exe {
			t.Errorf("%s: what was known is gone: %+v", test.name, c.Process)
		}
		if strings.Contains(fmt.Sprint(c), tokenText) {
			t.Errorf("%s tells the token: %+v", test.name, c)
		}
	}
}

// TestSocketsConnectAgain: a socket that connects again begins another stream.
func TestSocketsConnectAgain(t *testing.T) {
	h := listen(tracer.AssemblerOptions{})
	h.Connected(tracer.Connect{Socket: 2, Time: noon, From: python})
	h.Sent(tracer.Segment{Socket: 2, Time: noon, Seq: 5, Bytes: []byte("GET /a HTTP/1.1\r\n")})
	h.Connected(tracer.Connect{Socket: 2, Time: noon.Add(time.Second), From: tracer.Process{PID: 8}})
	h.Sent(tracer.Segment{Socket: 2, Time: noon.Add(time.Second), Seq: 99_000, Bytes: []byte("GET /b HTTP/1.1\r\n\r\n")})
	h.Flush(noon.Add(2 * time.Second))
	if want := []string{"unknown GET /a ", "v1 GET /b "}; !slices.Equal(h.told(), want) || h.calls[0].Process.PID != 7 || h.calls[1].Process.PID != 8 {
		t.Errorf("%+v", h.calls)
	}
}

// TestMemoryIsBounded: connections without end, and holes that are never filled, cost no more than they may.
func TestMemoryIsBounded(t *testing.T) {
	h := listen(tracer.AssemblerOptions{Connections: 50, Held: 100_000})
	piece := bytes.Repeat([]byte("x"), 10_000)
	for i := range uint64(5000) {
		h.Connected(tracer.Connect{Socket: i, Time: noon, From: python})
		h.Sent(tracer.Segment{Socket: i, Time: noon, Seq: 1})
		h.Sent(tracer.Segment{Socket: i, Time: noon, Seq: uint32(100 + i), Bytes: piece}) // behind a hole
		if connections, held := tracer.Held(h.Assembler); connections > 50 || held > 120_000 {
			t.Fatalf("%d connections hold %d bytes", connections, held)
		}
	}
	h.Close()
	if connections, held := tracer.Held(h.Assembler); connections != 0 || held != 0 || len(h.Losses()) == 0 {
		t.Errorf("at the end %d connections hold %d bytes, lost %v", connections, held, h.Losses())
	}
	h = listen(tracer.AssemblerOptions{})
	h.Connected(tracer.Connect{Socket: 1, Time: noon, From: python})
	h.Sent(tracer.Segment{Socket: 1, Time: noon, Seq: 1, Bytes: []byte("GET /a HTTP/1.1\r\n")})
	h.Flush(noon.Add(20 * time.Minute))
	if connections, _ := tracer.Held(h.Assembler); connections != 0 || len(h.calls) != 1 {
		t.Errorf("an idle connection: %d left, %q", connections, h.told())
	}
}

// FuzzParser sends any bytes in any two pieces: the calls do not depend on how they come, and where Go's own server would take the first
// request, its version is the one that the metadata service tells.
func FuzzParser(f *testing.F) {
	f.Add([]byte("GET /latest/meta-data/ HTTP/1.1\r\nx-aws-ec2-metadata-token: a\r\n\r\n"), uint16(9))
	f.Add([]byte("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\nGET / HTTP/1.0\n\n"), uint16(70))
	f.Add([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /x\r\n"), uint16(50))
	f.Add([]byte("\x16\x03\x01GET / HTTP/1.1\n\n"), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, at uint16) {
		whole := one(string(data))
		n := int(at) % (len(data) + 1)
		if parts := one(string(data[:n]), string(data[n:])); !slices.Equal(parts.told(), whole.told()) {
			t.Fatalf("cut at %d: %q, whole: %q", n, parts.told(), whole.told())
		}
		for _, c := range whole.calls {
			if len(c.Path) > 1024 || len(c.Method) > 32 || len(c.UserAgent) > 512 || c.Version == tracer.Unknown && c.Why == "" {
				t.Fatalf("%+v", c)
			}
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil || r.ProtoMajor != 1 {
			return
		}
		_, token := r.Header["X-Aws-Ec2-Metadata-Token"]
		_, ttl := r.Header["X-Aws-Ec2-Metadata-Token-Ttl-Seconds"]
		want := tracer.V1
		if token || ttl || r.Method == http.MethodPut {
			want = tracer.V2
		}
		if len(whole.calls) == 0 || whole.calls[0].Version != want {
			t.Fatalf("%q is %s, and it tells %q", data, want, whole.told())
		}
	})
}
