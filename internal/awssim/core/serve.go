package core

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// breath is waited before an answer goes out over a network, on the machine's clock. The Go SDK closes its request body
// as soon as the response has begun; when the answer is faster than the client's own sending goroutine, its transport
// drops the connection ("use of closed network connection"), in about one of 500 calls. The pause makes that rare; a
// client that must be sure gives the transport a body of its own.
const breath = 200 * time.Microsecond

// Handler answers AWS requests, and the simulator's own controls under /_sim/.
func (w *World) Handler() http.Handler {
	routes := w.routes()
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		time.Sleep(breath)
		routes.ServeHTTP(rw, r)
	})
}

func (w *World) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_sim/calls", w.serveCalls)
	mux.HandleFunc("GET /_sim/clock", w.serveClock)
	mux.HandleFunc("GET /_sim/operations", w.serveOperations)
	mux.HandleFunc("GET /_sim/faults", w.serveFaults)
	mux.HandleFunc("POST /_sim/faults", w.serveAddFault)
	mux.HandleFunc("DELETE /_sim/faults", w.serveRemoveFault)
	for _, s := range w.services {
		for pattern, control := range s.Controls {
			mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) { control(w, rw, r) })
		}
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/_sim/") {
			mux.ServeHTTP(rw, r)
			return
		}
		w.serveAWS(rw, r) // not by way of the mux, which redirects paths that it does not find clean
	})
}

// Serve answers on a listener until the context ends.
func (w *World) Serve(ctx context.Context, l net.Listener) error {
	s := &http.Server{Handler: w.Handler(), ReadHeaderTimeout: 30 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the simulator on %s: %w", l.Addr(), err)
	}
	return nil
}

// serveAWS carries one request through identity, latency, faults, throttling, enforcement and its handler.
func (w *World) serveAWS(rw http.ResponseWriter, r *http.Request) {
	c, err := w.accept(r)
	status := http.StatusOK
	var body []byte
	var after []Fault
	if err == nil {
		after, err = w.perform(r.Context(), c)
	} else if !errors.Is(err, errDropBefore) {
		w.record(c, wire.AsError(err).HTTPStatus(), wire.AsError(err).Code, "")
	}
	if errors.Is(err, errDropBefore) || errors.Is(err, errDropAfter) {
		for _, f := range after {
			f.After(c)
		}
		panic(http.ErrAbortHandler)
	}
	for _, f := range after {
		f.After(c)
	}
	if c.Whole != nil {
		maps.Copy(rw.Header(), c.Whole.Header)
	}
	if err == nil && c.Whole != nil {
		status, body = c.Whole.Status, c.Whole.Body
		rw.Header().Set("X-Amz-Request-Id", c.RequestID)
	} else if err != nil {
		e := wire.AsError(err)
		status = e.HTTPStatus()
		body = wire.WriteError(rw.Header(), c.Out.Protocol(), c.Service.Namespace, c.RequestID, e)
		w.log.DebugContext(r.Context(), "refused", "service", c.Service.Name, "action", c.Action, "code", e.Code,
			"message", e.Message)
	} else {
		body = c.Out.Bytes()
		rw.Header().Set("Content-Type", c.Out.Protocol().ContentType())
		rw.Header().Set("X-Amzn-Requestid", c.RequestID)
		if c.Out.Protocol() == wire.CBOR {
			rw.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		}
	}
	if r.Method == http.MethodHead {
		body = nil
	} else {
		rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	rw.WriteHeader(status)
	_, _ = rw.Write(body) // a caller that has gone away is no fault of the world's
}

var (
	errDropBefore = errors.New("connection dropped before the effect")
	errDropAfter  = errors.New("connection dropped after the effect")
)

// nowhere is the service of requests that name none.
var nowhere = &Service{Name: "unknown"}

// accept finds out what is asked, of which service, by whom and where. The call is usable for an error response even
// when there is an error.
func (w *World) accept(r *http.Request) (*Call, error) {
	c := &Call{World: w, Service: nowhere, RequestID: w.newRequestID(), Now: w.Now()}
	at, scopeErr := scopeOf(r)
	if s := w.signing[at.service]; s != nil {
		c.Service = s
	}
	parse := c.Service.Parse
	if parse == nil {
		dialect := wire.Dialect{EC2: c.Service.offers(wire.EC2Query), Routes: c.Service.routes}
		parse = func(r *http.Request) (wire.Request, error) { return wire.Parse(r, dialect) }
	}
	req, err := parse(r)
	c.Out = wire.NewWriter(req.Protocol)
	c.Action, c.Version, c.In, c.region = req.Action, req.Version, req.Params, at.region
	if err != nil {
		if _, ok := errors.AsType[*wire.Error](err); !ok {
			return c, fmt.Errorf("%w: %w", errDropBefore, err) // the client went away while sending
		}
		if scopeErr == nil && c.Service == nowhere && req.Protocol == wire.Query {
			return c, c.unknownREST(at.service)
		}
		return c, err
	}
	if scopeErr != nil {
		return c, unauthenticated(req.Protocol, scopeErr)
	}
	if s := w.targets[req.Target]; req.Target != "" && s != nil {
		c.Service = s
	}
	if c.Service == nowhere || !c.Service.offers(req.Protocol) {
		return c, unknownService(at.service, req.Protocol)
	}
	if !w.Offered(c.Service.Name, at.region) {
		return c, notOffered(c.Service.Name, at.region)
	}
	if c.Principal, err = w.principal(req.Protocol, at.key, r.Header.Get("X-Amz-Security-Token")+
		r.URL.Query().Get("X-Amz-Security-Token")); err != nil {
		return c, err
	}
	return c, w.locate(c, req)
}

// unknownREST refuses a request that names no action: one of a REST service that is not simulated. Those speak JSON, but for a few, whose
// errors look like those of Query.
func (c *Call) unknownREST(name string) error {
	if name == "route53" || name == "cloudfront" {
		return unknownService(name, wire.RESTXML)
	}
	c.Out = wire.NewWriter(wire.RESTJSON)
	return unknownService(name, wire.RESTJSON)
}

func unknownService(name string, by wire.Protocol) error {
	return &wire.Error{
		Code: "UnknownService", Status: http.StatusNotFound, Message: fmt.Sprintf("the simulator does not offer %q by %s", name, by),
	}
}

// locate finds the call's action and place.
func (w *World) locate(c *Call, req wire.Request) error {
	region := c.region
	if c.Service.Global {
		region = ""
	} else if !w.RegionEnabled(c.Principal.Account, region) {
		return notSubscribed(req.Protocol, region)
	}
	var err error
	if c.Place, err = w.Place(c.Principal.Account, region); err != nil {
		return badKey(req.Protocol)
	}
	var ok bool
	if c.spec, ok = c.Service.Actions[c.Action]; !ok {
		return unknownAction(req)
	}
	return c.checkParams()
}

func unknownAction(req wire.Request) error {
	switch req.Protocol {
	case wire.EC2Query, wire.Query:
		return wire.Errorf("InvalidAction", "The action %s is not valid for this web service.", req.Action)
	default:
		return wire.Errorf("UnknownOperationException", "The operation %s is not known.", req.Action)
	}
}

func (c *Call) checkParams() error {
	if c.spec.Params == nil {
		return nil
	}
	for _, name := range c.In.Names() {
		if !slices.Contains(c.spec.Params, name) && !(c.spec.DryRun && name == "DryRun") {
			return wire.Errorf("UnknownParameter", "The parameter %s is not recognized", name)
		}
	}
	return nil
}

// perform carries out an accepted call. It records the call, whatever becomes of it.
func (w *World) perform(ctx context.Context, c *Call) (after []Fault, err error) {
	struck := w.faults.strike(c)
	dropAfter := false
	for _, f := range struck {
		dropAfter = dropAfter || f.DropAfter
		if f.After != nil {
			after = append(after, f)
		}
	}
	err = w.approach(ctx, c, struck)
	c.Now = w.Now()
	if err == nil {
		err = w.throttle(c)
	}
	if err != nil {
		w.finish(c, err)
		return after, err
	}
	c.Place.settle(c.Now)
	err = w.effect(c, dropAfter)
	return after, err
}

// approach is all that happens to a call before it reaches its service: latency and faults.
func (w *World) approach(ctx context.Context, c *Call, struck []Fault) error {
	if w.opts.Latency != nil {
		if err := w.sleep(ctx, w.opts.Latency(c)); err != nil {
			return fmt.Errorf("%w: %w", errDropBefore, err)
		}
	}
	for _, f := range struck {
		if err := w.sleep(ctx, f.delay()); err != nil {
			return fmt.Errorf("%w: %w", errDropBefore, err)
		}
		if f.Hook != nil {
			if err := f.Hook(c); err != nil {
				return err
			}
		}
		if f.DropBefore {
			return errDropBefore
		}
		if err := f.refusal(c); err != nil {
			return err
		}
	}
	return nil
}

// effect runs the handler with its place locked, and records it before the lock is let go.
func (w *World) effect(c *Call, dropAfter bool) (err error) {
	if c.spec.Mutating {
		c.Place.mu.Lock()
		defer c.Place.mu.Unlock()
	} else {
		c.Place.mu.RLock()
		defer c.Place.mu.RUnlock()
	}
	err = w.authorize(c)
	if err == nil {
		err = c.Out.Response(c.Action, c.Service.Namespace, c.RequestID, func() error { return c.spec.Handle(c) })
	}
	if dropAfter {
		err = errDropAfter
	}
	w.finish(c, err)
	return err
}

func (w *World) finish(c *Call, err error) {
	switch {
	case err == nil:
		w.record(c, http.StatusOK, "", "")
	case errors.Is(err, errDropBefore):
		w.record(c, 0, "", "before")
	case errors.Is(err, errDropAfter):
		w.record(c, 0, "", "after")
	default:
		e := wire.AsError(err)
		w.record(c, e.HTTPStatus(), e.Code, "")
	}
}

func (w *World) serveCalls(rw http.ResponseWriter, r *http.Request) {
	var since int64
	if s := r.URL.Query().Get("since"); s != "" {
		var err error
		if since, err = strconv.ParseInt(s, 10, 64); err != nil {
			http.Error(rw, "since: want a sequence number", http.StatusBadRequest)
			return
		}
	}
	rw.Header().Set("Content-Type", "application/jsonl")
	enc := json.NewEncoder(rw)
	for _, c := range w.CallsSince(since) {
		if enc.Encode(c) != nil {
			return
		}
	}
}

func (w *World) serveClock(rw http.ResponseWriter, _ *http.Request) {
	writeJSON(rw, map[string]time.Time{"now": w.Now()})
}

func (w *World) serveFaults(rw http.ResponseWriter, _ *http.Request) { writeJSON(rw, w.Faults()) }

func (w *World) serveAddFault(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, wire.MaxBody))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	var f Fault
	if err := DecodeStrict("fault", body, &f); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	id, err := w.AddFault(f)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(rw, map[string]int{"id": id})
}

func (w *World) serveRemoveFault(rw http.ResponseWriter, r *http.Request) {
	id := 0
	if s := r.URL.Query().Get("id"); s != "" {
		var err error
		if id, err = strconv.Atoi(s); err != nil {
			http.Error(rw, "id: want a number", http.StatusBadRequest)
			return
		}
	}
	w.RemoveFault(id)
	rw.WriteHeader(http.StatusNoContent)
}

func writeJSON(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(v) // a caller that has gone away is no fault of the world's
}

// Client is an HTTP client that reaches the world without a network: real requests and responses, no sockets. The host
// of the URL does not matter.
func (w *World) Client() *http.Client {
	return &http.Client{Transport: resolver{w, transport{w.routes()}}}
}

// BaseURL is an endpoint for clients that use Client.
const BaseURL = "http://aws.sim"

type transport struct{ handler http.Handler }

func (t transport) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	in.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	if in.URL.Path == "" {
		in.URL.Path = "/"
	}
	in.RequestURI = in.URL.RequestURI()
	in.Host = r.URL.Host
	rec := &recorder{header: http.Header{}, status: http.StatusOK}
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			resp, err = nil, io.ErrUnexpectedEOF
			if ctx := r.Context().Err(); ctx != nil {
				err = ctx
			}
		}
	}()
	t.handler.ServeHTTP(rec, in)
	return &http.Response{
		Status: http.StatusText(rec.status), StatusCode: rec.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rec.header, Body: io.NopCloser(bytes.NewReader(rec.body.Bytes())),
		ContentLength: int64(rec.body.Len()), Request: r,
	}, nil
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// checkRegion refuses a region that the partition does not have.
func checkRegion(p fleet.Partition, r fleet.Region) error {
	if slices.ContainsFunc(Regions(p), func(i RegionInfo) bool { return i.Name == r }) {
		return nil
	}
	names := make([]string, 0, len(Regions(p)))
	for _, i := range Regions(p) {
		names = append(names, string(i.Name))
	}
	return fmt.Errorf("region %q is not in partition %s (%s)", r, p, strings.Join(names, ", "))
}
