package scan

import (
	"context"
	"sync"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// queue runs jobs of many accounts, so many at a time, in turn: an account that is slow, because AWS throttles it,
// holds at most half of the workers while others wait.
type queue struct {
	workers int

	mu      sync.Mutex
	changed *sync.Cond
	waiting map[fleet.AccountID][]job
	turn    []fleet.AccountID // accounts in the order of their first job
	next    int
	running map[fleet.AccountID]int
	active  int
	left    int
	failed  error
}

// job is a piece of work. It may add others. An error stops the queue.
type job func(ctx context.Context) error

func newQueue(workers int) *queue {
	q := &queue{workers: max(1, workers), waiting: map[fleet.AccountID][]job{}, running: map[fleet.AccountID]int{}}
	q.changed = sync.NewCond(&q.mu)
	return q
}

func (q *queue) add(account fleet.AccountID, j job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.waiting[account]; !ok {
		q.turn = append(q.turn, account)
	}
	q.waiting[account] = append(q.waiting[account], j)
	q.left++
	q.changed.Signal()
}

// run works until no job is left, one fails or ctx ends. All jobs that began have ended when it returns.
func (q *queue) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	wake := context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.changed.Broadcast()
	})
	defer wake()
	var group sync.WaitGroup
	for range q.workers {
		group.Go(func() {
			for {
				account, j := q.take(ctx)
				if j == nil {
					return
				}
				err := j(ctx)
				if q.ended(account, err) {
					stop(err)
				}
			}
		})
	}
	group.Wait()
	if q.failed != nil {
		return q.failed
	}
	if q.left > 0 {
		return context.Cause(ctx)
	}
	return nil
}

// take waits for a job; nil where there is none and none will come.
func (q *queue) take(ctx context.Context) (fleet.AccountID, job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if ctx.Err() != nil || q.left == 0 && q.active == 0 {
			q.changed.Broadcast()
			return "", nil
		}
		if account, ok := q.choose(); ok {
			jobs := q.waiting[account]
			j := jobs[0]
			q.waiting[account] = jobs[1:]
			q.left--
			q.active++
			q.running[account]++
			return account, j
		}
		q.changed.Wait()
	}
}

// choose finds the account whose turn it is. One that holds half of the workers comes after all others.
func (q *queue) choose() (fleet.AccountID, bool) {
	share := max(1, q.workers/2)
	for _, limit := range []int{share, q.workers + 1} {
		for i := range q.turn {
			at := (q.next + i) % len(q.turn)
			account := q.turn[at]
			if len(q.waiting[account]) > 0 && q.running[account] < limit {
				q.next = (at + 1) % len(q.turn)
				return account, true
			}
		}
	}
	return "", false
}

// ended takes a job off and tells whether the queue is to stop.
func (q *queue) ended(account fleet.AccountID, err error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.active--
	q.running[account]--
	if err != nil && q.failed == nil {
		q.failed = err
	}
	q.changed.Broadcast()
	return err != nil
}
