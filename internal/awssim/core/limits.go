package core

import (
	"cmp"
	"net/http"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

type bucketKey struct {
	place           fleet.Place
	service, bucket string
}

// buckets are the token buckets of all places; AWS keeps them per account, region and action.
type buckets struct {
	mu     sync.Mutex
	levels map[bucketKey]*level
}

func (b *buckets) take(key bucketKey, size Bucket, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.levels[key]
	if l == nil {
		l = &level{tokens: size.Burst, at: now}
		b.levels[key] = l
	}
	if elapsed := now.Sub(l.at); elapsed > 0 {
		l.tokens = min(size.Burst, l.tokens+elapsed.Seconds()*size.Refill)
		l.at = now
	}
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}

// throttle takes the call's token, or refuses it.
func (w *World) throttle(c *Call) error {
	size := c.spec.Bucket
	if c.spec.BucketFor != nil {
		size = c.spec.BucketFor(c)
	}
	if w.opts.Unthrottled || size.Burst == 0 {
		return nil
	}
	name := c.Action
	if size.Name != "" {
		name = size.Name + " " + c.Action
	}
	key := bucketKey{place: c.Place.Place, service: c.Service.Name, bucket: name}
	key.place.Region = c.region
	if w.buckets.take(key, size, c.Now) {
		return nil
	}
	return throttled(c)
}

// throttled is the refusal in the service's own words.
func throttled(c *Call) error {
	switch c.Out.Protocol() {
	case wire.EC2Query:
		return &wire.Error{Code: "RequestLimitExceeded", Message: "Request limit exceeded.",
			Status: http.StatusServiceUnavailable}
	case wire.Query:
		return &wire.Error{Code: "Throttling", Message: "Rate exceeded", Status: http.StatusBadRequest}
	case wire.CBOR:
		e := &wire.Error{Code: "ThrottlingException", Message: "Rate exceeded", Status: http.StatusBadRequest}
		if c.Service.offers(wire.Query) { // it was Query before, and its clients know the old word
			e.Code, e.Shape = "Throttling", "ThrottlingException"
		}
		return e
	case wire.RESTJSON:
		return &wire.Error{Code: cmp.Or(c.Service.ThrottleCode, "ThrottlingException"), Message: "Rate exceeded",
			Status: http.StatusTooManyRequests}
	case wire.RESTXML:
		return &wire.Error{Code: "SlowDown", Message: "Please reduce your request rate.", Status: http.StatusServiceUnavailable}
	default:
		return &wire.Error{Code: cmp.Or(c.Service.ThrottleCode, "ThrottlingException"), Message: "Rate exceeded",
			Status: http.StatusBadRequest}
	}
}
