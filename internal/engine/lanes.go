package engine

import (
	"context"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// lanes is the crew of a rollout that one process works on alone: every place has a lane, every task a goroutine.
type lanes struct {
	opt  Options
	all  map[fleet.Place]*lane
	back chan result
	// underway counts the tasks that have not come back, work ends them.
	underway int
	work     context.Context
	end      context.CancelFunc
}

func newLanes(ctx context.Context, opt Options) *lanes {
	work, end := context.WithCancel(ctx)
	return &lanes{opt: opt, all: map[fleet.Place]*lane{}, back: make(chan result), work: work, end: end}
}

func (l *lanes) give(_ context.Context, tasks []Task) error {
	for _, t := range tasks {
		if l.all[t.Place] == nil {
			l.all[t.Place] = &lane{opt: l.opt, place: t.Place}
		}
		in := l.all[t.Place]
		l.underway++
		go func() { l.back <- in.carryOut(l.work, t) }()
	}
	return nil
}

func (l *lanes) wait(ctx context.Context, d time.Duration) ([]result, error) {
	sleep, cancel := context.WithCancel(ctx)
	defer cancel()
	woken := make(chan error, 1)
	go func() { woken <- l.opt.Clock.Sleep(sleep, d) }()
	select {
	case res := <-l.back:
		l.underway--
		out := []result{res}
		for { // whatever else is there, so that one round serves many
			select {
			case res := <-l.back:
				l.underway--
				out = append(out, res)
			default:
				return out, ctx.Err()
			}
		}
	case err := <-woken:
		return nil, err
	}
}

func (l *lanes) drain() ([]result, bool) {
	l.end()
	if l.underway == 0 {
		return nil, false
	}
	l.underway--
	return []result{<-l.back}, true
}

func (l *lanes) close(ctx context.Context) {
	l.end()
	for _, in := range l.all {
		in.release(ctx)
	}
}
