package tracer

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Verdict is what traces show of IMDSv1.
type Verdict string

// Verdicts.
const (
	// VerdictCalls: calls of version 1 were seen.
	VerdictCalls Verdict = "v1-calls"
	// VerdictClean: none was seen, and all that was to be watched was watched, without loss.
	VerdictClean Verdict = "clean"
	// VerdictOpen: none was seen, and there may have been some: Doubts say why.
	VerdictOpen Verdict = "open"
)

// Bounds of a Tally: callers, their paths, users and hosts that are told apart.
const (
	maxCallers = 4096
	maxPaths   = 200
	maxUsers   = 20
	maxHosts   = 20
)

// Others is the program, and the path, under which is counted what is too much to tell apart.
const Others = "(others)"

// lateAfter is how long after the start of a host a trace may begin and still see what calls while it boots.
const lateAfter = 2 * time.Minute

// Summary is what one or several traces come to.
type Summary struct {
	Verdict Verdict `json:"verdict"`
	// Doubts are what keeps calls that were not seen from having not been made.
	Doubts []string `json:"doubts,omitempty"`
	// Notes are what else a reader should know, such as what was before the trace.
	Notes []string `json:"notes,omitempty"`
	// From and To bound the time of all traces.
	From    time.Time `json:"from,omitzero"`
	To      time.Time `json:"to,omitzero"`
	V1      int64     `json:"v1"`
	V2      int64     `json:"v2"`
	Unknown int64     `json:"unknown"`
	NotHTTP int64     `json:"not_http"`
	Traces  []Watched `json:"traces"`
	// Callers of version 1 come first, with most calls first; then those of whom it is not known, and those of version 2 alone.
	Callers []Caller `json:"callers"`
}

// Watched is one trace: on one host, in one or several parts.
type Watched struct {
	Trace      string          `json:"trace"`
	Host       string          `json:"host,omitempty"`
	InstanceID string          `json:"instance_id,omitempty"`
	Account    fleet.AccountID `json:"account,omitempty"`
	Region     fleet.Region    `json:"region,omitempty"`
	Tier       Tier            `json:"tier"`
	From       time.Time       `json:"from"`
	To         time.Time       `json:"to"`
	Parts      int             `json:"parts"`
	V1         int64           `json:"v1"`
	V2         int64           `json:"v2"`
	Unknown    int64           `json:"unknown"`
	NotHTTP    int64           `json:"not_http"`
	Losses     []Loss          `json:"losses,omitempty"`
	Doubts     []string        `json:"doubts,omitempty"`
	Notes      []string        `json:"notes,omitempty"`
}

// Name is what the host is called: its instance id and its own name.
func (w *Watched) Name() string {
	switch {
	case w.InstanceID == "":
		return cmp.Or(w.Host, "a host without a name")
	case w.Host == "":
		return w.InstanceID
	}
	return w.InstanceID + " (" + w.Host + ")"
}

// Lossy tells whether calls may have been made that the trace does not have.
func (w *Watched) Lossy() bool { return len(w.Doubts) > 0 }

// Caller is who makes calls: a program in a place, with what it says of itself.
type Caller struct {
	Program        string    `json:"program"` // see Process.Program
	Place          Place     `json:"place,omitzero"`
	Product        string    `json:"product,omitempty"`
	ProductVersion string    `json:"product_version,omitempty"`
	UserAgent      string    `json:"user_agent,omitempty"` // of its first call
	V1             int64     `json:"v1"`
	V2             int64     `json:"v2"`
	Unknown        int64     `json:"unknown,omitempty"`
	NotHTTP        int64     `json:"not_http,omitempty"`
	First          time.Time `json:"first"` // of its calls that are not of version 2, if there are any
	Last           time.Time `json:"last"`
	// Paths are those of its calls that are not of version 2, with most calls first.
	Paths []PathCount `json:"paths,omitempty"`
	Users []int       `json:"users,omitempty"`
	// Hosts are where it was seen, at most 20 by name.
	Hosts     []string `json:"hosts,omitempty"`
	MoreHosts bool     `json:"more_hosts,omitempty"`
	// Process is that of one of its calls.
	Process Process `json:"process,omitzero"`
}

// PathCount is how often a path was called.
type PathCount struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Count  int64  `json:"count"`
}

// Fix tells whether something is to be done about the caller, or found out.
func (c *Caller) Fix() bool { return c.V1+c.Unknown > 0 }

// String is where a process runs, in words; empty where nothing is known.
func (p Place) String() string {
	var out []string
	switch {
	case p.PodName != "":
		out = append(out, "pod "+p.PodName)
	case p.Pod != "":
		out = append(out, "pod "+p.Pod)
	case p.TaskName != "":
		out = append(out, "task "+p.TaskName)
	case p.Task != "":
		out = append(out, "task "+p.Task)
	case p.Container != "":
		out = append(out, "container "+p.Container[:min(len(p.Container), 12)])
	}
	if p.Unit != "" {
		out = append(out, p.Unit)
	}
	return strings.Join(out, ", ")
}

// Program is what people look for: the executable, the script that an interpreter runs, and who started a tool such as curl.
func (p *Process) Program() string {
	exe := cmp.Or(strings.TrimSuffix(p.Exe, " (deleted)"), p.Comm)
	if exe == "" && p.PID != 0 {
		return fmt.Sprintf("process %d", p.PID)
	}
	if exe == "" {
		return "a process that was not seen"
	}
	base := strings.TrimRight(path.Base(exe), "0123456789.")
	switch base {
	case "python", "node", "nodejs", "ruby", "perl", "php", "bash", "sh", "dash", "zsh", "java", "pypy", "deno", "bun":
		if s := p.script(base); s != "" {
			exe += " " + cut(s, 200)
		}
	case "curl", "wget", "nc", "ncat", "busybox", "http", "xh", "aws":
		if len(p.Parents) > 0 && p.Parents[0].Comm != "" {
			exe += " from " + p.Parents[0].Comm
		}
	}
	if p.Guessed {
		exe += " (guessed)"
	}
	return exe
}

// script is what an interpreter runs, as its command line tells.
func (p *Process) script(interpreter string) string {
	for i := 1; i < len(p.Args); i++ {
		arg := p.Args[i]
		switch {
		case arg == "-c" || arg == "-e" || arg == "-" || arg == "--eval":
			return "" // a text, not a name
		case (arg == "-m" || arg == "-jar") && i+1 < len(p.Args):
			return arg + " " + p.Args[i+1]
		case interpreter == "java" && (arg == "-cp" || arg == "-classpath" || arg == "--class-path"):
			i++
		case arg != "" && !strings.HasPrefix(arg, "-") && arg != redacted:
			return arg
		}
	}
	return ""
}

// Tally adds calls and traces up. It is not safe for several goroutines.
type Tally struct {
	traces  map[traceKey]*traced
	callers map[callerKey]*caller
}

// NewTally is an empty tally.
func NewTally() *Tally {
	return &Tally{traces: map[traceKey]*traced{}, callers: map[callerKey]*caller{}}
}

type traceKey struct{ host, instance, trace string }

// traced is a trace in the making.
type traced struct {
	Watched
	seconds int64
	partial []string
	parts   map[int]*Part
	first   Header // of the first part that is there
}

// Part is one file of a trace in a Tally.
type Part struct {
	tally *Tally
	of    *traced
	h     Header
	end   *End
	last  time.Time // of its calls
	lost  bool
	seen  End
}

// Part begins one file of a trace. Of a part that is there twice the later counts as one more.
func (t *Tally) Part(h Header) *Part {
	k := traceKey{h.Host, h.InstanceID, h.Trace}
	of := t.traces[k]
	if of == nil {
		of = &traced{Watched: Watched{Trace: h.Trace, Host: h.Host, InstanceID: h.InstanceID, From: h.Started, Tier: h.Tier},
			parts: map[int]*Part{}, first: h}
		t.traces[k] = of
	}
	of.Account, of.Region = cmp.Or(of.Account, h.Account), cmp.Or(of.Region, h.Region)
	if h.Started.Before(of.From) {
		of.From = h.Started
	}
	if h.Part < of.first.Part {
		of.first = h
	}
	of.seconds = max(of.seconds, h.Seconds)
	if slices.Index(Tiers(), h.Tier) > slices.Index(Tiers(), of.Tier) {
		of.Tier = h.Tier
	}
	of.partial, of.Notes = distinct(of.partial, h.Partial), distinct(of.Notes, h.Notices)
	p := &Part{tally: t, of: of, h: h, last: h.Started}
	number := h.Part
	for of.parts[number] != nil {
		number = -len(of.parts) // a copy
	}
	of.parts[number] = p
	return p
}

// Add counts a line of the part.
func (p *Part) Add(l Line) {
	switch {
	case l.Call != nil:
		p.seen.count(l.Call.Version)
		if l.Call.Time.After(p.last) {
			p.last = l.Call.Time
		}
		p.tally.call(p.of.Name(), l.Call)
	case l.Loss != nil:
		p.lost = true
		p.of.lost(*l.Loss)
	case l.End != nil:
		p.end = l.End
	}
}

// lost adds a loss to those of its reason.
func (t *traced) lost(l Loss) {
	const most = 64
	i := slices.IndexFunc(t.Losses, func(o Loss) bool { return o.Why == l.Why })
	switch {
	case i >= 0:
		t.Losses[i].Events += l.Events
	case len(t.Losses) < most:
		t.Losses = append(t.Losses, l)
	default:
		t.Losses[most-1].Events += l.Events
	}
}

// End ends a part whose lines were added as they were made.
func (p *Part) End(now time.Time, reason string) {
	e := p.seen
	e.Time, e.Reason, e.Lost = now.UTC(), reason, p.lost
	p.end = &e
}

// counts are those of the end, which knows of calls without lines too; without an end, what was seen.
func (p *Part) counts() End {
	if p.end != nil {
		return *p.end
	}
	return p.seen
}

// Merge adds another tally, which is not to be used any more.
func (t *Tally) Merge(o *Tally) {
	for k, from := range o.traces {
		of := t.traces[k]
		if of == nil {
			t.traces[k] = from
			continue
		}
		for _, n := range slices.Sorted(maps.Keys(from.parts)) {
			p := from.parts[n]
			copied := t.Part(p.h)
			copied.end, copied.last, copied.lost, copied.seen = p.end, p.last, p.lost, p.seen
		}
		for i := range from.Losses {
			of.lost(from.Losses[i])
		}
	}
	for k, from := range o.callers {
		to := t.callers[k]
		if to == nil && len(t.callers) < maxCallers {
			t.callers[k] = from
			continue
		}
		if to == nil {
			to = t.caller(callerKey{program: Others}, nil)
		}
		to.merge(from)
	}
}

func (w *caller) merge(o *caller) {
	if w.Fix() == o.Fix() {
		if o.First.Before(w.First) || w.First.IsZero() {
			w.First = o.First
		}
		if o.Last.After(w.Last) {
			w.Last = o.Last
		}
	} else if o.Fix() {
		w.First, w.Last = o.First, o.Last
	}
	w.V1, w.V2, w.Unknown, w.NotHTTP = w.V1+o.V1, w.V2+o.V2, w.Unknown+o.Unknown, w.NotHTTP+o.NotHTTP
	for p, n := range o.paths {
		w.path(p, n)
	}
	for u := range o.users {
		w.user(u)
	}
	for h := range o.hosts {
		w.host(h)
	}
}

// callerKey is what the calls of one caller have in common.
type callerKey struct {
	program, product, version, agent string
	place                            Place
}

// caller is a Caller in the making.
type caller struct {
	Caller
	paths map[[2]string]int64
	users map[int]bool
	hosts map[string]bool
}

func (t *Tally) call(host string, c *Call) {
	k := callerKey{c.Process.Program(), c.Product, c.ProductVersion, "", c.Place}
	if c.Product == "" {
		k.agent = c.UserAgent
	}
	if t.callers[k] == nil && len(t.callers) >= maxCallers {
		k = callerKey{program: Others}
	}
	t.caller(k, c).add(host, c)
}

// caller gives the one of a key; c is its first call.
func (t *Tally) caller(k callerKey, c *Call) *caller {
	who := t.callers[k]
	if who == nil {
		who = &caller{Caller: Caller{Program: k.program, Place: k.place, Product: k.product, ProductVersion: k.version},
			paths: map[[2]string]int64{}, users: map[int]bool{}, hosts: map[string]bool{}}
		if k.program != Others && c != nil {
			who.UserAgent, who.Process = c.UserAgent, c.Process
		}
		t.callers[k] = who
	}
	return who
}

func (w *caller) add(host string, c *Call) {
	concern := c.Version == V1 || c.Version == Unknown
	if w.First.IsZero() || concern && !w.Fix() {
		w.First, w.Last = c.Time, c.Time
	}
	if concern || !w.Fix() {
		if c.Time.Before(w.First) {
			w.First = c.Time
		}
		if c.Time.After(w.Last) {
			w.Last = c.Time
		}
	}
	switch c.Version {
	case V1:
		w.V1++
	case V2:
		w.V2++
	case NotHTTP:
		w.NotHTTP++
	default:
		w.Unknown++
	}
	if concern {
		w.path([2]string{c.Method, c.Path}, 1)
	}
	if u := c.Process.UID; u != nil {
		w.user(*u)
	}
	w.host(host)
}

func (w *caller) path(p [2]string, n int64) {
	if _, known := w.paths[p]; !known && len(w.paths) >= maxPaths {
		p = [2]string{"", Others}
	}
	w.paths[p] += n
}

func (w *caller) user(id int) {
	if len(w.users) < maxUsers {
		w.users[id] = true
	}
}

func (w *caller) host(name string) {
	if len(w.hosts) < maxHosts {
		w.hosts[name] = true
	} else if !w.hosts[name] {
		w.MoreHosts = true
	}
}

// Summary adds all up. now, where it is not zero, is the time of traces that are still being made: parts without an end are then
// not cut off.
func (t *Tally) Summary(now time.Time) *Summary {
	s := &Summary{Traces: []Watched{}, Callers: []Caller{}}
	for _, k := range slices.SortedFunc(maps.Keys(t.traces), func(a, b traceKey) int {
		return cmp.Or(cmp.Compare(a.instance, b.instance), cmp.Compare(a.host, b.host), t.traces[a].From.Compare(t.traces[b].From),
			cmp.Compare(a.trace, b.trace))
	}) {
		s.add(t.traces[k].watched(now))
	}
	for _, c := range t.callers {
		s.Callers = append(s.Callers, c.told())
	}
	slices.SortFunc(s.Callers, compareCallers)
	switch {
	case s.V1 > 0:
		s.Verdict = VerdictCalls
	case len(s.Doubts) > 0 || len(s.Traces) == 0:
		s.Verdict = VerdictOpen
	default:
		s.Verdict = VerdictClean
	}
	return s
}

func (s *Summary) add(w Watched) {
	s.Traces = append(s.Traces, w)
	s.V1, s.V2, s.Unknown, s.NotHTTP = s.V1+w.V1, s.V2+w.V2, s.Unknown+w.Unknown, s.NotHTTP+w.NotHTTP
	if s.From.IsZero() || w.From.Before(s.From) {
		s.From = w.From
	}
	if w.To.After(s.To) {
		s.To = w.To
	}
	s.Doubts, s.Notes = distinct(s.Doubts, w.Doubts), distinct(s.Notes, w.Notes)
}

// compareCallers puts first whom something is to be done about.
func compareCallers(a, b Caller) int {
	return cmp.Or(cmp.Compare(b.V1, a.V1), cmp.Compare(b.Unknown, a.Unknown), cmp.Compare(b.V2, a.V2), cmp.Compare(b.NotHTTP, a.NotHTTP),
		cmp.Compare(a.Program, b.Program), cmp.Compare(a.Place.String(), b.Place.String()), cmp.Compare(a.Product, b.Product),
		cmp.Compare(a.ProductVersion, b.ProductVersion), cmp.Compare(a.UserAgent, b.UserAgent), cmp.Compare(a.Place.Container, b.Place.Container))
}

func (w *caller) told() Caller {
	c := w.Caller
	for p, n := range w.paths {
		c.Paths = append(c.Paths, PathCount{p[0], p[1], n})
	}
	slices.SortFunc(c.Paths, func(a, b PathCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	c.Users, c.Hosts = slices.Sorted(maps.Keys(w.users)), slices.Sorted(maps.Keys(w.hosts))
	return c
}

// watched says what a trace watched, and what is doubtful about it.
func (t *traced) watched(now time.Time) Watched {
	w := t.Watched
	w.Losses, w.Notes = slices.Clone(w.Losses), slices.Clone(w.Notes)
	reason := ""
	numbers := slices.Sorted(maps.Keys(t.parts))
	for _, n := range numbers {
		p := t.parts[n]
		e := p.counts()
		w.V1, w.V2, w.Unknown, w.NotHTTP = w.V1+e.V1, w.V2+e.V2, w.Unknown+e.Unknown, w.NotHTTP+e.NotHTTP
		w.Parts++
		to := p.last
		switch {
		case p.end != nil:
			to, reason = p.end.Time, p.end.Reason
		case now.IsZero():
			w.Doubts = append(w.Doubts, fmt.Sprintf("part %d was cut off: it has no end", p.h.Part))
			reason = ""
		default:
			to, reason = now, ""
		}
		if p.end != nil && p.end.Lost && !p.lost {
			w.Doubts = append(w.Doubts, "something was lost")
		}
		if to.After(w.To) {
			w.To = to
		}
	}
	t.doubt(&w, numbers, reason)
	if late := w.From.Sub(t.first.Booted); !t.first.Booted.IsZero() && t.first.Part == 1 && late > lateAfter {
		w.Notes = append(w.Notes, fmt.Sprintf("the host was started %s before the trace: what calls only while it boots was not seen", roughly(late)))
	}
	return w
}

// doubt lists what keeps a trace from showing that nothing was there.
func (t *traced) doubt(w *Watched, numbers []int, reason string) {
	for _, l := range w.Losses {
		if l.Events > 0 {
			w.Doubts = append(w.Doubts, fmt.Sprintf("%d events were lost: %s", l.Events, l.Why))
		} else {
			w.Doubts = append(w.Doubts, "events were lost: "+l.Why)
		}
	}
	for _, p := range t.partial {
		w.Doubts = append(w.Doubts, strings.TrimSuffix(p, "."))
	}
	if w.Unknown > 0 {
		w.Doubts = append(w.Doubts, fmt.Sprintf("of %d calls the version is not known", w.Unknown))
	}
	next := 1
	for _, n := range numbers {
		if n < 1 {
			continue
		}
		if n > next {
			w.Doubts = append(w.Doubts, fmt.Sprintf("the part before part %d is missing", n))
		}
		next = n + 1
	}
	switch {
	case reason == EndNextPart:
		w.Doubts = append(w.Doubts, fmt.Sprintf("the part behind part %d is missing", next-1))
	case reason == EndFailed:
		w.Doubts = append(w.Doubts, "the capture broke off")
	case reason == EndAsked && t.seconds > 0 && w.To.Sub(w.From) < time.Duration(t.seconds)*time.Second:
		w.Doubts = append(w.Doubts, fmt.Sprintf("it was stopped after %s of %s", roughly(w.To.Sub(w.From)), roughly(time.Duration(t.seconds)*time.Second)))
	}
	w.Doubts = distinct(nil, w.Doubts)
}

// Doubt adds a reason why there may have been calls that were not seen. Nothing is then clean.
func (s *Summary) Doubt(why string) {
	s.Doubts = distinct(s.Doubts, []string{why})
	if s.Verdict == VerdictClean {
		s.Verdict = VerdictOpen
	}
}

// Says is the verdict in a sentence.
func (s *Summary) Says() string {
	layout := "2006-01-02 15:04 UTC"
	if s.To.Sub(s.From) < time.Hour {
		layout = "2006-01-02 15:04:05 UTC"
	}
	when := fmt.Sprintf("from %s to %s (%s)", s.From.UTC().Format(layout), s.To.UTC().Format(layout), roughly(s.To.Sub(s.From)))
	if len(s.Traces) > 1 {
		when += fmt.Sprintf(" in %d traces", len(s.Traces))
	}
	switch s.Verdict {
	case VerdictCalls:
		n := 0
		for i := range s.Callers {
			if s.Callers[i].V1 > 0 {
				n++
			}
		}
		return fmt.Sprintf("IMDSv1 is called: %s by %s, %s.", number(s.V1, "call", "calls"), number(int64(n), "caller", "callers"), when)
	case VerdictClean:
		return fmt.Sprintf("Clean: no IMDSv1 call %s, among %s, and nothing was lost.", when, number(s.V2+s.NotHTTP, "call", "calls"))
	}
	if len(s.Traces) == 0 {
		return "Nothing was watched."
	}
	return fmt.Sprintf("No IMDSv1 call was seen %s, which does not show that there was none: %s.", when, strings.Join(s.Doubts, "; "))
}

func number(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// roughly is a duration in its two largest units.
func roughly(d time.Duration) string {
	switch d = max(0, d); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d/time.Minute))
	case d < 48*time.Hour:
		if m := int(d % time.Hour / time.Minute); m > 0 {
			return fmt.Sprintf("%d h %d min", int(d/time.Hour), m)
		}
		return fmt.Sprintf("%d h", int(d/time.Hour))
	}
	return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
}

// distinct adds what is not there yet.
func distinct(have, more []string) []string {
	for _, m := range more {
		if !slices.Contains(have, m) {
			have = append(have, m)
		}
	}
	return have
}
