package engine

import (
	"context"
	"errors"
	"sync"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// reads lets the changes of a lane that read at the same time share a call, where their kind reads many resources at once. Nobody
// waits for company: a read that finds room goes out at once, and those that come while there is none go out together. So a lane
// whose token bucket is empty reads in few calls what it would else read one by one.
type reads struct {
	mu     sync.Mutex
	groups map[string]*readGroup // by kind
}

// mostReads is how many calls that read one kind a lane has under way at a time.
const mostReads = 2

// readGroup is one kind's reads.
type readGroup struct {
	underway int
	next     *readBatch // those that wait for room
}

// readBatch is one call for several reads.
type readBatch struct {
	ids   []string
	done  chan struct{}
	found map[string]inventory.Resource
	err   error
}

// read reads one resource.
func (g *reads) read(ctx context.Context, place fleet.Place, kindName string, drv kind.Driver, id string) (inventory.Resource, error) {
	many, ok := drv.(kind.BatchReader)
	if !ok {
		return drv.Read(ctx, id)
	}
	b, mine := g.join(kindName, id)
	if mine {
		g.carryOut(ctx, kindName, drv, many, b)
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return inventory.Resource{}, ctx.Err()
	}
	switch {
	case b.err != nil && !mine && len(b.ids) > 1 && ctx.Err() == nil && (errors.Is(b.err, context.Canceled) || fleet.ClassOf(b.err) == fleet.ErrGone):
		return drv.Read(ctx, id) // whoever made the call was broken off, or one of the others is no more
	case b.err != nil:
		return inventory.Resource{}, b.err
	}
	r, ok := b.found[id]
	if !ok {
		return r, kind.Errorf(fleet.ErrGone, place, "read", "%s %s does not exist", kindName, id)
	}
	return r, nil
}

// join finds the batch that will read id, and tells whether the caller is to carry it out: it is alone and there is room.
func (g *reads) join(kindName, id string) (b *readBatch, mine bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.groups == nil {
		g.groups = map[string]*readGroup{}
	}
	group := g.groups[kindName]
	if group == nil {
		group = &readGroup{}
		g.groups[kindName] = group
	}
	if group.underway < mostReads {
		group.underway++
		return &readBatch{ids: []string{id}, done: make(chan struct{})}, true
	}
	if group.next == nil {
		group.next = &readBatch{done: make(chan struct{})}
	}
	group.next.ids = append(group.next.ids, id)
	return group.next, false
}

// carryOut makes the call, and after it the one that has been waiting for room meanwhile, for as long as there is one.
func (g *reads) carryOut(ctx context.Context, kindName string, drv kind.Driver, many kind.BatchReader, b *readBatch) {
	if len(b.ids) == 1 {
		r, err := drv.Read(ctx, b.ids[0])
		b.found, b.err = map[string]inventory.Resource{b.ids[0]: r}, err
	} else {
		b.found, b.err = many.ReadMany(ctx, b.ids)
	}
	close(b.done)
	g.mu.Lock()
	group := g.groups[kindName]
	next := group.next
	group.next = nil
	if next == nil {
		group.underway--
	}
	g.mu.Unlock()
	if next != nil {
		go g.carryOut(ctx, kindName, drv, many, next)
	}
}
