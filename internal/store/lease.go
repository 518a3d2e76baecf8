package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
)

// patience is how long it is remembered that somebody asked for a lease in vain: twice the time after which whoever still
// wants it asks again.
const patience = 2 * 30 * time.Second

// leaseRow is a lease as its row has it.
type leaseRow struct {
	holder, until, process string
	epoch                  int64
	waiter, waitsUntil     string
}

func readLease(ctx context.Context, tx *txn, key string) (l leaseRow, err error) {
	err = tx.QueryRowContext(ctx, sqlLease+tx.forUpdate(), key).Scan(&l.holder, &l.epoch, &l.until, &l.process, &l.waiter, &l.waitsUntil)
	return l, err
}

// Acquire implements engine.Journal. A holder is known to be dead when it took the lease under a process lock that is no
// longer held, which is so as soon as this store holds it. A refusal records who asked.
func (s *Store) Acquire(ctx context.Context, key, holder string, now time.Time, ttl time.Duration) (engine.Lease, error) {
	if key == "" || holder == "" || ttl <= 0 {
		return engine.Lease{}, errors.New("a lease is of something, taken by somebody, for some time")
	}
	lease := engine.Lease{Key: key, Holder: holder}
	mine := s.processNonce()
	var refused error
	err := s.journal(ctx, "take the lease of "+key, "acquire", func(tx *txn) error {
		refused = nil
		if _, err := tx.ExecContext(ctx, sqlAddLease, key); err != nil {
			return err
		}
		have, err := readLease(ctx, tx, key)
		if err != nil {
			return err
		}
		end, err := unstamp(have.until)
		if err != nil {
			return err
		}
		dead := mine != "" && have.process != "" && have.process != mine
		if have.holder != "" && have.holder != holder && !dead && now.Before(end) {
			refused = fmt.Errorf("take the lease of %s: %w: %s holds it until %s", key, engine.ErrFenced, have.holder,
				end.Format(time.RFC3339))
			_, err := tx.ExecContext(ctx, sqlWaitLease, key, holder, stamp(now.Add(patience)))
			return err
		}
		lease.Epoch = have.epoch + 1
		return one(tx.ExecContext(ctx, sqlPutLease, key, holder, lease.Epoch, stamp(now.Add(ttl)), mine))
	})
	if err := errors.Join(err, refused); err != nil {
		return engine.Lease{}, err
	}
	return lease, nil
}

// Renew implements engine.Journal.
func (s *Store) Renew(ctx context.Context, lease engine.Lease, now time.Time, ttl time.Duration) error {
	return s.journal(ctx, "keep the lease of "+lease.Key, "renew", func(tx *txn) error {
		err := one(tx.ExecContext(ctx, sqlRenewLease, lease.Key, lease.Holder, lease.Epoch, stamp(now.Add(ttl))))
		if errors.Is(err, errNoRow) {
			return engine.ErrFenced
		}
		return err
	})
}

// Release implements engine.Journal.
func (s *Store) Release(ctx context.Context, lease engine.Lease, now time.Time) (wanted bool, err error) {
	err = s.journal(ctx, "give up the lease of "+lease.Key, "release", func(tx *txn) error {
		wanted = false
		released, err := tx.ExecContext(ctx, sqlReleaseLease, lease.Key, lease.Holder, lease.Epoch)
		if err != nil {
			return err
		}
		if n, err := released.RowsAffected(); err != nil || n == 0 {
			return err
		}
		have, err := readLease(ctx, tx, lease.Key)
		if err != nil {
			return err
		}
		until, err := unstamp(have.waitsUntil)
		wanted = have.waiter != "" && have.waiter != lease.Holder && now.Before(until)
		return err
	})
	return wanted && err == nil, err
}

// holdsLease tells whether the lease is still its holder's and is the one that is needed. A lease that ran out and that nobody
// took is still good: whoever takes it raises the epoch first. Until the transaction ends, nobody can take it.
func holdsLease(ctx context.Context, tx *txn, lease engine.Lease, key string) error {
	if lease.Key != key {
		return fmt.Errorf("the lease is of %q, and what is asked for needs that of %q", lease.Key, key)
	}
	have, err := readLease(ctx, tx, key)
	if errors.Is(err, sql.ErrNoRows) || (err == nil && (have.holder != lease.Holder || have.epoch != lease.Epoch)) {
		return fmt.Errorf("%w: %s", engine.ErrFenced, key)
	}
	return err
}
