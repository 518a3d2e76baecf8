-- +goose Up

-- A lease is of a lane or of a rollout's seat.
ALTER TABLE lease RENAME COLUMN place TO key;
ALTER TABLE lease ADD COLUMN waiter TEXT NOT NULL DEFAULT ''; -- who has asked for it in vain
ALTER TABLE lease ADD COLUMN waits_until TEXT NOT NULL DEFAULT ''; -- and until when that counts

ALTER TABLE rollout ADD COLUMN max_in_flight_account INTEGER NOT NULL DEFAULT 0; -- 0 is no bound of its own
ALTER TABLE change ADD COLUMN class TEXT NOT NULL DEFAULT '';
CREATE INDEX change_manual ON change (rollout) WHERE class = 'manual';

ALTER TABLE intent ADD COLUMN account TEXT NOT NULL DEFAULT '';
UPDATE intent SET account = substr(place, instr(place, '/') + 1, 12) WHERE open = 1;

CREATE TABLE wave_approval (
    rollout TEXT NOT NULL REFERENCES rollout (id),
    wave TEXT NOT NULL,
    who TEXT NOT NULL, -- and why
    PRIMARY KEY (rollout, wave)
) WITHOUT ROWID;

-- The one switch that keeps every intent of every rollout from starting: a row while it is set.
CREATE TABLE stop (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    who TEXT NOT NULL -- and why
);

-- What coordinators have asked of lanes, until they have taken notice of what became of it.
CREATE TABLE lane_order (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    rollout TEXT NOT NULL REFERENCES rollout (id),
    subject TEXT NOT NULL, -- a change, or 'gate/' and a stack
    place TEXT NOT NULL,
    body TEXT NOT NULL, -- JSON
    taken INTEGER NOT NULL, -- the epoch of the lease under which it was taken last, 0 before
    closed INTEGER NOT NULL, -- 0 or 1
    report TEXT NOT NULL, -- JSON, '' before it is closed
    UNIQUE (rollout, subject)
);
CREATE INDEX lane_order_waiting ON lane_order (place, id) WHERE closed = 0;
CREATE INDEX lane_order_closed ON lane_order (rollout, id) WHERE closed = 1;

-- +goose Down
DROP TABLE lane_order;
DROP TABLE stop;
DROP TABLE wave_approval;
ALTER TABLE intent DROP COLUMN account;
DROP INDEX change_manual;
ALTER TABLE change DROP COLUMN class;
ALTER TABLE rollout DROP COLUMN max_in_flight_account;
ALTER TABLE lease DROP COLUMN waits_until;
ALTER TABLE lease DROP COLUMN waiter;
ALTER TABLE lease RENAME COLUMN key TO place;
