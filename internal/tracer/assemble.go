package tracer

import (
	"cmp"
	"container/list"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/product"
)

// How long is waited, by the times of the events, for bytes that are missing before others.
const (
	// settle: at the beginning of a stream, where it is not known whether its first bytes have come.
	settle = 200 * time.Millisecond
	// patience: within a stream. What a host sends is captured before it can be lost, so what is missing so long was not captured.
	patience = 2 * time.Second
	// idle: what is known of a connection on which nothing was sent for so long is forgotten.
	idle = 15 * time.Minute
)

// Bounds of an Assembler's memory, where its options say nothing.
const (
	maxConnections = 16 << 10
	maxHeld        = 32 << 20  // bytes that wait for others, in all
	maxHeldOfOne   = 256 << 10 // and of one connection
)

// AssemblerOptions say how calls are put together.
type AssemblerOptions struct {
	// Products reads user agents; nil is the table that comes with the program.
	Products *product.Table
	// Connections bounds how many connections are known at a time; 0 is 16,384. Of more, the one that was quiet longest is forgotten.
	Connections int
	// Held bounds the bytes that wait for others before them; 0 is 32 MiB.
	Held int
	// Lost is told each loss as it is noticed; nil is not.
	Lost func(Loss)
}

// Loss is something that the trace does not have.
type Loss struct {
	Time time.Time `json:"time"`
	// Events is how many were lost; 0 where nobody could count them.
	Events uint64 `json:"events"`
	Why    string `json:"why"`
}

// Assembler puts calls together from what a capture sees. It is a Sink. Its methods may be called from several goroutines; what it
// tells is told by one at a time, which must not call it.
//
// Memory is bounded whatever is sent: of a request it keeps a line at most, of a connection what came out of order.
type Assembler struct {
	mu      sync.Mutex
	o       AssemblerOptions
	call    func(Call)
	streams map[uint64]*stream
	recent  *list.List // of *stream, the one quiet longest at the front
	waits   map[*stream]bool
	held    int
	losses  []Loss // one for each reason
	now     time.Time
}

// NewAssembler makes an Assembler that tells each call, in the order of its connection.
func NewAssembler(o AssemblerOptions, call func(Call)) *Assembler {
	o.Products = cmp.Or(o.Products, product.Default())
	o.Connections = cmp.Or(o.Connections, maxConnections)
	o.Held = cmp.Or(o.Held, maxHeld)
	return &Assembler{o: o, call: call, streams: map[uint64]*stream{}, recent: list.New(), waits: map[*stream]bool{}}
}

// Connected implements Sink.
func (a *Assembler) Connected(c Connect) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tick(c.Time)
	s := a.streams[c.Socket]
	if s != nil && (s.begun || s.known) { // a socket that connects again begins another stream
		a.finish(s, "the connection ended before the request did")
		s = nil
	}
	if s == nil {
		s = a.open(c.Socket)
	}
	s.from, s.known = own(c.From), true
	s.parser = a.parser(s)
	a.touch(s)
}

// Sent implements Sink.
func (a *Assembler) Sent(g Segment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tick(g.Time)
	s := a.streams[g.Socket]
	if s == nil {
		s = a.open(g.Socket)
	}
	a.touch(s)
	if len(g.Bytes) == 0 && g.Missing <= 0 {
		if !s.begun && len(s.waiting) == 0 {
			s.begin(g.Seq)
		}
		return
	}
	if held := s.take(g); held > 0 {
		a.held += held
	}
	a.advance(s)
}

// Lost implements Sink.
func (a *Assembler) Lost(n uint64, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lose(n, why)
}

// Flush lets the time pass where no events tell it: what waited too long is given out.
func (a *Assembler) Flush(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tick(now)
	for _, s := range slices.SortedFunc(maps.Keys(a.waits), func(x, y *stream) int { return cmp.Compare(x.socket, y.socket) }) {
		a.advance(s)
	}
	for e := a.recent.Front(); e != nil; e = a.recent.Front() {
		s := e.Value.(*stream)
		if a.now.Sub(s.last) < idle {
			break
		}
		a.finish(s, "the request never ended")
	}
}

// Close gives out all that is left, when the trace ends.
func (a *Assembler) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.recent.Len() > 0 {
		a.finish(a.recent.Front().Value.(*stream), "the trace ended before the request did")
	}
}

// Losses gives what was lost, one for each reason, with the time of the first.
func (a *Assembler) Losses() []Loss {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.losses)
}

// tick takes the latest time there is.
func (a *Assembler) tick(now time.Time) {
	if now.After(a.now) {
		a.now = now
	}
}

// lose counts what was lost by reason. Reasons are few; should they be many, the last one stands for the rest.
func (a *Assembler) lose(n uint64, why string) {
	l := Loss{Time: a.now, Events: n, Why: cut(strings.ToValidUTF8(why, "\uFFFD"), 512)}
	if a.o.Lost != nil {
		a.o.Lost(l)
	}
	i := slices.IndexFunc(a.losses, func(o Loss) bool { return o.Why == l.Why })
	if i < 0 && len(a.losses) >= 64 {
		i = len(a.losses) - 1
	}
	if i < 0 {
		a.losses = append(a.losses, l)
		return
	}
	a.losses[i].Events += n
}

func (a *Assembler) open(socket uint64) *stream {
	for len(a.streams) >= a.o.Connections {
		s := a.recent.Front().Value.(*stream)
		if s.unfinished() {
			a.lose(1, "more connections were open than can be kept")
		}
		a.finish(s, "more connections were open than can be kept")
	}
	s := &stream{socket: socket}
	s.parser = a.parser(s)
	a.streams[socket] = s
	s.place = a.recent.PushBack(s)
	s.last = a.now
	return s
}

// parser makes a parser for a stream. On a connection that is older than the trace the first line may be the rest of one.
func (a *Assembler) parser(s *stream) parser {
	p := parser{emit: func(r *request) { a.call(a.made(s, r)) }}
	if !s.known {
		p.partial, p.after = true, olderThanTrace
	}
	return p
}

const olderThanTrace = "the connection is older than the trace"

func (a *Assembler) touch(s *stream) {
	s.last = a.now
	a.recent.MoveToBack(s.place)
}

// advance gives the parser what can be given, and gives up on what is waited for too long or at too great a cost.
func (a *Assembler) advance(s *stream) {
	costly := s.held > maxHeldOfOne || a.held > a.o.Held
	if !s.begun {
		if !costly && a.now.Sub(s.since) < settle {
			a.waits[s] = true
			return
		}
		s.begin(s.waiting[0].seq)
	}
	for {
		a.held -= s.drain()
		n := s.hole()
		if n == 0 {
			delete(a.waits, s)
			return
		}
		if s.since.IsZero() {
			s.since = a.now
		}
		if costly = s.held > maxHeldOfOne || a.held > a.o.Held; !costly && a.now.Sub(s.since) < patience {
			a.waits[s] = true
			return
		}
		a.skip(s, n)
	}
}

// skip passes a hole.
func (a *Assembler) skip(s *stream, n uint32) {
	s.next += n
	s.since = time.Time{}
	if s.parser.gap(int64(n)) {
		a.lose(1, "bytes of a connection were not captured")
	}
}

// finish gives out what is left of a stream and forgets it.
func (a *Assembler) finish(s *stream, why string) {
	if !s.begun && len(s.waiting) > 0 {
		s.begin(s.waiting[0].seq)
	}
	for s.begun {
		a.held -= s.drain()
		n := s.hole()
		if n == 0 {
			break
		}
		a.skip(s, n)
	}
	s.parser.end(why)
	delete(a.streams, s.socket)
	delete(a.waits, s)
	a.recent.Remove(s.place)
}

// stream is what one connection sends.
type stream struct {
	socket uint64
	from   Process
	known  bool // the trace saw it connect
	place  *list.Element
	last   time.Time // when something was sent last
	parser parser

	begun   bool      // next is right
	next    uint32    // sequence number of the next byte
	end     uint32    // behind the last byte that is known to have been sent
	waiting []segment // in the order of their sequence numbers
	held    int
	since   time.Time // when what comes next was missed first
}

// segment is a Segment that waits.
type segment struct {
	seq    uint32
	at     time.Time
	bytes  []byte
	sender *Process
}

func (s *stream) begin(seq uint32) {
	s.begun, s.next, s.since = true, seq, time.Time{}
	if len(s.waiting) == 0 {
		s.end = seq
	}
}

// after is how far a sequence number lies behind another one, which wraps around.
func after(a, b uint32) int32 { return int32(a - b) }

// take keeps a copy of what is sent, in its place among what waits, and tells how many bytes that is.
func (s *stream) take(g Segment) int {
	end := g.Seq + uint32(len(g.Bytes)) + uint32(max(0, g.Missing))
	if !s.begun && len(s.waiting) == 0 && s.since.IsZero() {
		s.since, s.end = g.Time, end
	}
	if after(end, s.end) > 0 {
		s.end = end
	}
	if len(g.Bytes) == 0 || s.begun && after(g.Seq+uint32(len(g.Bytes)), s.next) <= 0 {
		if !s.begun && len(s.waiting) == 0 {
			s.waiting = append(s.waiting, segment{seq: g.Seq, at: g.Time})
		}
		return 0 // it was there before
	}
	w := segment{seq: g.Seq, at: g.Time, bytes: slices.Clone(g.Bytes)}
	if g.Sender != nil {
		w.sender = new(own(*g.Sender))
	}
	at, same := slices.BinarySearchFunc(s.waiting, w, func(x, y segment) int {
		return cmp.Or(int(after(x.seq, y.seq)), len(x.bytes)-len(y.bytes))
	})
	if same {
		return 0
	}
	s.waiting = slices.Insert(s.waiting, at, w)
	s.held += len(w.bytes)
	return len(w.bytes)
}

// drain gives the parser what comes next, and tells how many bytes no longer wait.
func (s *stream) drain() (freed int) {
	n := 0
	for _, w := range s.waiting {
		ahead := after(w.seq, s.next)
		if ahead > 0 {
			break
		}
		n++
		freed += len(w.bytes)
		if known := -int64(ahead); known < int64(len(w.bytes)) {
			s.parser.feed(w.bytes[known:], w.at, w.sender)
			s.next = w.seq + uint32(len(w.bytes))
			s.since = time.Time{}
		}
	}
	s.waiting = slices.Delete(s.waiting, 0, n)
	s.held -= freed
	return freed
}

// hole is how many bytes are missing before the next that are there, or at the end; 0 where none are.
func (s *stream) hole() uint32 {
	end := s.end
	if len(s.waiting) > 0 {
		end = s.waiting[0].seq
	}
	return uint32(max(0, after(end, s.next)))
}

// unfinished tells whether something of a request is there that has not been told.
func (s *stream) unfinished() bool {
	return len(s.waiting) > 0 || s.parser.state == stateHeader || len(s.parser.line) > 0
}

// own is a process as it is kept: bounded, and without secrets.
func own(p Process) Process {
	p.Args = Redact(p.Args)
	p.Comm, p.Exe, p.Cgroup = clean(p.Comm, 64), redactText(clean(p.Exe, 4096)), clean(p.Cgroup, 4096)
	p.Parents = slices.Clone(p.Parents[:min(len(p.Parents), 32)])
	for i := range p.Parents {
		p.Parents[i].Comm = clean(p.Parents[i].Comm, 64)
	}
	return p
}

// made is a request as a call.
func (a *Assembler) made(s *stream, r *request) Call {
	c := Call{Time: r.at.UTC(), Version: r.version, Method: clean(r.method, 32), Path: pathOf(r.target, r.cut),
		UserAgent: cut(redactText(clean(r.agent, keptHeader)), 512), Process: s.from}
	if sure := r.sender != nil && !(r.sender.Guessed && s.known && !s.from.Guessed); sure {
		c.Process = *r.sender
		if s.known && s.from.PID != 0 && r.sender.PID != s.from.PID {
			c.Connected = new(s.from)
		} else {
			c.Process.complete(s.from)
		}
	} else if !s.known && !slices.Contains(r.why, olderThanTrace) {
		r.why = append(r.why, olderThanTrace)
	}
	c.Place = Locate(c.Process.Cgroup)
	c.Why = strings.Join(slices.DeleteFunc(r.why, func(w string) bool { return w == "" }), "; ")
	if said := a.o.Products.ParseAgent(c.UserAgent); len(said) > 0 {
		c.Product, c.ProductVersion = string(said[0].Product), said[0].Version
	}
	return c
}

// complete fills in what is not known of a process from another record of it.
func (p *Process) complete(o Process) {
	p.PID, p.Comm, p.Exe, p.Cgroup = cmp.Or(p.PID, o.PID), cmp.Or(p.Comm, o.Comm), cmp.Or(p.Exe, o.Exe), cmp.Or(p.Cgroup, o.Cgroup)
	p.NetNS, p.UID = cmp.Or(p.NetNS, o.NetNS), cmp.Or(p.UID, o.UID)
	if len(p.Args) == 0 {
		p.Args = o.Args
	}
	if len(p.Parents) == 0 {
		p.Parents = o.Parents
	}
}
