package core

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// offers tells where services are not offered. AWS has no endpoint for a service in such a region, so that its name does not
// resolve; that is what the clients of World.Client meet. Over a socket nobody looks names up, since clients are pointed at
// one address: there the world answers with an error that AWS never gives, UnknownEndpoint.
type offers struct {
	mu      sync.RWMutex
	missing map[string]map[fleet.Region]bool // by service
}

// SetNotOffered says in which regions a service is not offered, in all accounts; none means that it is everywhere.
func (w *World) SetNotOffered(service string, regions ...fleet.Region) error {
	if w.services[service] == nil {
		return fmt.Errorf("service %q is not simulated", service)
	}
	w.offers.mu.Lock()
	defer w.offers.mu.Unlock()
	if w.offers.missing == nil {
		w.offers.missing = map[string]map[fleet.Region]bool{}
	}
	w.offers.missing[service] = map[fleet.Region]bool{}
	for _, r := range regions {
		w.offers.missing[service][r] = true
	}
	return nil
}

// Offered tells whether a service is offered in a region.
func (w *World) Offered(service string, region fleet.Region) bool {
	w.offers.mu.RLock()
	defer w.offers.mu.RUnlock()
	return !w.offers.missing[service][region]
}

// loadOffers reads a seed's not_offered.
func (w *World) loadOffers(s *Seed) error {
	for _, service := range slices.Sorted(maps.Keys(s.NotOffered)) {
		if err := w.SetNotOffered(service, s.NotOffered[service]...); err != nil {
			return fmt.Errorf("seed.not_offered: %w", err)
		}
	}
	return nil
}

// resolver fails a request as a resolver does that knows no such name, where the service is not offered.
type resolver struct {
	world *World
	next  http.RoundTripper
}

func (v resolver) RoundTrip(r *http.Request) (*http.Response, error) {
	at, err := scopeOf(r)
	if s := v.world.signing[at.service]; err == nil && s != nil && !v.world.Offered(s.Name, at.region) {
		if r.Body != nil {
			_ = r.Body.Close() // the interface's contract; nothing was read of it
		}
		host := at.service + "." + string(at.region) + ".amazonaws.com"
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	return v.next.RoundTrip(r)
}

// notOffered is the answer over a socket.
func notOffered(service string, region fleet.Region) error {
	return &wire.Error{Code: "UnknownEndpoint", Status: http.StatusNotFound,
		Message: fmt.Sprintf("%s is not offered in %s; with AWS the name of its endpoint would not resolve", service, region)}
}
