package certify

import (
	"cmp"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// Tone is what a piece of text is, for those who show colours.
type Tone int

// Tones.
const (
	Plain Tone = iota
	Strong
	Faint
	Good
	Doubtful
	Bad
)

// TextOptions say how a report is shown to people. The zero value is a plain text.
type TextOptions struct {
	// Width is the screen's, in columns; 0 is 100 for prose and 140 for tables.
	Width int
	// Paint colours a piece of text; nil leaves it as it is.
	Paint func(Tone, string) string
	// Calls bounds the calls that are listed of each run; 0 is twenty.
	Calls int
}

// text writes a report.
type text struct {
	TextOptions
	table int // width of tables
	b     strings.Builder
}

// Text writes the report for people: the verdict with its reason first, then each run with what it shows and each call.
func (r *Report) Text(w io.Writer, o TextOptions) error {
	t := &text{TextOptions: o}
	if t.Paint == nil {
		t.Paint = func(_ Tone, s string) string { return s }
	}
	t.table = cmp.Or(t.Width, 140)
	t.Width, t.Calls = min(cmp.Or(t.Width, 100), 100), cmp.Or(t.Calls, 20)
	t.headline(r)
	t.environment(r.Environment)
	for i := range r.Runs {
		t.run(r, i)
	}
	_, err := io.WriteString(w, t.b.String())
	return err
}

// line writes words after a label, wrapped.
func (t *text) line(label, format string, args ...any) {
	t.wrap(label, strings.Repeat(" ", utf8.RuneCountInString(label)), fmt.Sprintf(format, args...), Plain)
}

// wrap breaks words at the width of the screen and paints what it broke.
func (t *text) wrap(lead, indent, words string, tone Tone) {
	var lines []string
	at, open := utf8.RuneCountInString(lead), ""
	for _, word := range strings.Fields(words) {
		n := utf8.RuneCountInString(word)
		if open != "" && at+1+n > t.Width {
			lines, open, at = append(lines, open), "", utf8.RuneCountInString(indent)
		}
		if open != "" {
			open, at = open+" ", at+1
		}
		open, at = open+word, at+n
	}
	lines = append(lines, open)
	for i, l := range lines {
		if i > 0 {
			lead = indent
		}
		t.b.WriteString(lead + t.Paint(tone, l) + "\n")
	}
}

// headline is the verdict, why, and what to do.
func (t *text) headline(r *Report) {
	words, tone := r.Verdict.words(r.HopLimit), Bad
	switch {
	case r.Verdict == Inconclusive || r.Verdict == PassesWithHops || r.Partial:
		tone = Doubtful
	case r.Verdict == Passes:
		tone = Good
	}
	if r.Partial {
		words += ", AS FAR AS A VARIABLE SHOWS"
	}
	t.b.WriteString(t.Paint(tone, words) + "\n")
	t.wrap("  ", "  ", printable(sentence(r.Reason))+".", Plain)
	if r.Fix != "" {
		t.wrap("  → ", "    ", r.Fix, Plain)
	}
	if r.Partial {
		t.wrap("  ", "  ", "The command was sent to the service by AWS_EC2_METADATA_SERVICE_ENDPOINT: programs that do not read it were not seen, "+
			"and no hop limit was tried.", Plain)
	}
}

// words are a verdict for people.
func (v Verdict) words(hopLimit int) string {
	if v == PassesWithHops {
		return fmt.Sprintf("PASSES WITH HOP LIMIT %d", hopLimit)
	}
	return strings.ToUpper(string(v))
}

// sentence begins with a capital, unless it begins with a path or a name that has none.
func sentence(s string) string {
	for _, begins := range []string{"the ", "of ", "it ", "a "} {
		if strings.HasPrefix(s, begins) {
			return strings.ToUpper(s[:1]) + s[1:]
		}
	}
	return s
}

// environment says what was taken from the command.
func (t *text) environment(changes []Change) {
	if len(changes) == 0 {
		return
	}
	by := map[string][]string{}
	var order []string
	for _, c := range changes {
		if by[c.What] == nil {
			order = append(order, c.What)
		}
		by[c.What] = append(by[c.What], c.Name)
	}
	t.b.WriteString("\n")
	for i, what := range order {
		label := "environment   "
		if i > 0 {
			label = strings.Repeat(" ", len(label))
		}
		t.line(label, "%s: %s", what, strings.Join(by[what], ", "))
	}
}

// run shows one run.
func (t *text) run(r *Report, i int) {
	j := &r.Runs[i]
	t.b.WriteString("\n")
	if len(r.Runs) > 1 {
		name := fmt.Sprintf("Run %d of %d", i+1, len(r.Runs))
		if j.Control {
			name += ", to compare"
		}
		t.b.WriteString(t.Paint(Strong, name) + ": " + j.Verdict.words(j.least()) + "\n")
	}
	t.line("command       ", "%s (%s)", printable(strings.Join(r.Command, " ")), j.ended())
	if r.Image != "" {
		t.line("image         ", "%s", printable(r.Image))
	}
	t.line("service       ", "%s", j.manner())
	t.line("calls         ", "%s", j.counted())
	if j.Timing.First != nil {
		t.line("time          ", "%s", j.Timing.words())
	}
	for _, n := range j.Notes {
		t.line("note          ", "%s", n)
	}
	said := ""
	if len(r.Runs) == 1 {
		said = r.Reason // by the headline
	}
	t.remarks(j, said)
	t.calls(j)
}

// ended says how the command ended, and when.
func (j *Judged) ended() string {
	after := length(j.Ended.Sub(j.Started))
	switch j.End.Stopped {
	case StoppedTimeout:
		return "stopped after " + after + ", when its time was over"
	case StoppedWaiting:
		return "stopped, after a token had not come and nothing else was asked for"
	case StoppedInterrupt:
		return "interrupted after " + after
	}
	return j.End.String() + " after " + after
}

// manner is how the service was.
func (j *Judged) manner() string {
	words := "IMDSv1 refused"
	if j.V1Allowed {
		words = "IMDSv1 allowed"
	}
	switch {
	case j.Endpoint:
		return words + ", found by AWS_EC2_METADATA_SERVICE_ENDPOINT, hop limit not tried"
	case j.Hops == 0:
		return words + fmt.Sprintf(", hop limit %d, on the instance itself", j.HopLimit)
	}
	return words + fmt.Sprintf(", hop limit %d, behind a router, as in a container", j.HopLimit)
}

// counted are the calls in numbers.
func (j *Judged) counted() string {
	var v1, refused, tokens, gone int
	got := false
	for _, c := range j.Calls {
		if c.Version == imds.V1 {
			v1++
		}
		if refusedV1(c) {
			refused++
		}
		if issued(c) {
			tokens++
		}
		if lost(c, j.Hops) {
			gone++
		}
		got = got || c.Credentials
	}
	if len(j.Calls) == 0 {
		return "none"
	}
	words := fmt.Sprintf("%d by IMDSv2, %d by IMDSv1", len(j.Calls)-v1, v1)
	if refused > 0 {
		words += fmt.Sprintf(" (%d refused)", refused)
	}
	words += "; " + plural(tokens, "token")
	if gone > 0 {
		words += fmt.Sprintf(" (%d lost)", gone)
	}
	if got {
		return words + "; credentials given"
	}
	return words + "; no credentials given"
}

// words say where the time went.
func (t Timing) words() string {
	out := "first call after " + length(*t.First)
	if t.Credentials != nil {
		out += ", credentials " + length(*t.Credentials) + " later"
	}
	if t.Waited > 0 {
		out += ", " + length(t.Waited) + " spent waiting for what never came"
	}
	return out
}

// remarks says what there is to say about a run, but for what was said already.
func (t *text) remarks(j *Judged, said string) {
	rest := slices.DeleteFunc(slices.Clone(j.Remarks), func(r Remark) bool { return r.Text == said })
	if len(rest) > 0 {
		t.b.WriteString("\n")
	}
	for _, r := range rest {
		mark, tone := "·", Plain
		switch {
		case r.Severity == Problem && !j.Verdict.Passed():
			mark, tone = "✗", Bad
		case r.Severity != Note:
			mark, tone = "!", Doubtful
		}
		t.b.WriteString("  " + t.Paint(tone, mark) + " ")
		words := printable(r.Text) + "."
		t.rest(words, "    ")
		if r.Fix != "" {
			t.wrap("    → ", "      ", r.Fix, Plain)
		}
	}
}

// rest writes words after what is on the line already, which takes as much as the indent.
func (t *text) rest(words, indent string) {
	var inner text
	inner.TextOptions = t.TextOptions
	inner.wrap(indent, indent, words, Plain)
	t.b.WriteString(strings.TrimPrefix(inner.b.String(), indent))
}

// calls lists the calls of a run.
func (t *text) calls(j *Judged) {
	if len(j.Calls) == 0 {
		return
	}
	t.b.WriteString("\n")
	rows := [][]string{{"TIME", "", "STATUS", "CALL", "TOKEN", "WHO"}}
	for _, c := range j.Calls[:min(t.Calls, len(j.Calls))] {
		rows = append(rows, t.call(j, c))
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	const call, least, own = 3, 26, 18 // of the call's column and of the last one
	last, taken := len(widths)-1, 2
	for _, w := range widths[:last] {
		taken += w + 2
	}
	if over := min(taken+own-t.table, widths[call]-least); over > 0 {
		widths[call], taken = widths[call]-over, taken-over
	}
	widths[last] = 0 // nothing stands behind it
	for n, row := range rows {
		row[call], row[last] = ending(row[call], widths[call]), short(row[last], max(t.table-taken, own))
		var line strings.Builder
		for i, cell := range row {
			padded := cell + strings.Repeat(" ", max(widths[i]-utf8.RuneCountInString(cell)+2, 0))
			if n == 0 {
				padded = t.Paint(Faint, padded)
			} else if tone := t.tone(j, j.Calls[n-1], i); tone != Plain {
				padded = t.Paint(tone, padded)
			}
			line.WriteString(padded)
		}
		t.b.WriteString("  " + strings.TrimRight(line.String(), " ") + "\n")
	}
	if n := len(j.Calls) - t.Calls; n > 0 {
		t.b.WriteString(fmt.Sprintf("  … and %d more, which --format json lists\n", n))
	}
}

// tone is that of a cell of a call.
func (t *text) tone(j *Judged, c Call, column int) Tone {
	switch {
	case column == 1 && c.Version == imds.V1:
		return Doubtful
	case column == 2 && vain(c, j.Hops):
		return Bad
	case column == 2:
		return Good
	}
	return Plain
}

// call is a row of the list.
func (t *text) call(j *Judged, c Call) []string {
	status := strconv.Itoa(c.Status)
	switch {
	case c.Status == 0:
		status = "closed"
	case lost(c, j.Hops):
		status = "lost"
	}
	token := ""
	if c.TokenID != "" {
		token = c.TokenID[:min(6, len(c.TokenID))]
	}
	who := who(c.Who)
	if said := cmp.Or(strings.TrimSpace(string(c.Product)+" "+c.ProductVersion), printable(c.UserAgent)); said != "" {
		who += ", " + said
	}
	at, call := c.Time.Sub(j.Started), c.Method+" "+c.Path
	if c.TTL > 0 {
		call += fmt.Sprintf(" (%d s)", c.TTL)
	}
	return []string{fmt.Sprintf("+%.3f s", at.Round(time.Millisecond).Seconds()), string(c.Version), status, printable(call), token, who}
}

// who is a process in a few words: itself, and what started it.
func who(p tracer.Process) string {
	if p.PID == 0 {
		return "?"
	}
	words := fmt.Sprintf("%s %d", printable(cmp.Or(path.Base(p.Exe), p.Comm)), p.PID)
	var above []string
	for _, parent := range p.Parents[:min(2, len(p.Parents))] {
		above = append(above, printable(parent.Comm))
	}
	if len(above) > 0 {
		words += " < " + strings.Join(above, " < ")
	}
	return words
}

// short cuts a text.
func short(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

// ending cuts a call in its middle: it keeps the method, and the end of the path.
func ending(s string, most int) string {
	n := utf8.RuneCountInString(s)
	if n <= most {
		return s
	}
	runes, method := []rune(s), strings.IndexByte(s, ' ')+1
	if method > most/2 {
		return short(s, most)
	}
	return string(runes[:method]) + "…" + string(runes[n-(most-method-1):])
}

// printable is text of strangers without what a terminal would obey.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) < 0 {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}
