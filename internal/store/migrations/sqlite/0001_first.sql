-- +goose Up

-- What was found. Times of scans and of the journal are UTC text with nine digits of seconds, so that they sort; '' is none.

CREATE TABLE place (
    id INTEGER PRIMARY KEY,
    partition TEXT NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL, -- '' is global
    UNIQUE (partition, account, region)
);

CREATE TABLE kind (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE account (
    partition TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    ou TEXT NOT NULL,
    ou_ids TEXT NOT NULL, -- the same path by ids, with slashes between
    status TEXT NOT NULL,
    tags TEXT NOT NULL, -- JSON object
    scan INTEGER NOT NULL, -- the last that listed it
    PRIMARY KEY (partition, id)
) WITHOUT ROWID;

CREATE TABLE scan (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    started TEXT NOT NULL,
    finished TEXT NOT NULL,
    status TEXT NOT NULL, -- running, complete, partial, interrupted
    tool TEXT NOT NULL,
    config TEXT NOT NULL,
    window_seconds INTEGER NOT NULL,
    stats TEXT NOT NULL -- JSON
);

CREATE TABLE scan_scope (
    place INTEGER NOT NULL,
    kind TEXT NOT NULL, -- a kind, an evidence source, or '' for the place itself
    scan INTEGER NOT NULL,
    status TEXT NOT NULL,
    class TEXT NOT NULL,
    detail TEXT NOT NULL,
    resources INTEGER NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (place, kind, scan)
) WITHOUT ROWID;

CREATE TABLE resource (
    id INTEGER PRIMARY KEY,
    place INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    name TEXT NOT NULL, -- AWS's id of it
    seen INTEGER NOT NULL, -- the last scan that saw it
    UNIQUE (place, kind, name)
);

CREATE TABLE resource_version (
    resource INTEGER NOT NULL,
    valid_from INTEGER NOT NULL, -- the scan that first saw it so
    valid_to INTEGER, -- the scan that no longer saw it so; NULL while it lasts
    document INTEGER NOT NULL,
    status TEXT NOT NULL,
    launched INTEGER NOT NULL, -- Unix milliseconds; 0 is unknown
    PRIMARY KEY (resource, valid_from)
) WITHOUT ROWID;

CREATE TABLE document (
    id INTEGER PRIMARY KEY,
    place INTEGER NOT NULL,
    hash BLOB NOT NULL, -- the first 16 bytes of the SHA-256 of the canonical JSON
    body BLOB NOT NULL, -- see document.go
    UNIQUE (place, hash)
);

CREATE TABLE evidence_span (
    id INTEGER PRIMARY KEY,
    started INTEGER NOT NULL, -- Unix seconds
    period INTEGER NOT NULL, -- nanoseconds
    slots INTEGER NOT NULL,
    UNIQUE (started, period, slots)
);

CREATE TABLE evidence_window (
    place INTEGER NOT NULL,
    source TEXT NOT NULL,
    scan INTEGER NOT NULL,
    resource INTEGER NOT NULL,
    metric INTEGER NOT NULL, -- see evidence_metric
    span INTEGER NOT NULL,
    total INTEGER NOT NULL, -- calls
    last INTEGER NOT NULL, -- the last slot with a call, -1 for none
    data BLOB NOT NULL, -- coverage and points, packed; empty where nothing is covered
    PRIMARY KEY (place, source, scan, resource, metric)
) WITHOUT ROWID;

CREATE TABLE evidence_metric (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE posture_daily (
    day TEXT NOT NULL, -- 2006-01-02
    place INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    resources INTEGER NOT NULL,
    PRIMARY KEY (day, place, verdict)
) WITHOUT ROWID;

-- What was decided.

CREATE TABLE plan (
    digest TEXT PRIMARY KEY,
    header TEXT NOT NULL, -- JSON
    path TEXT NOT NULL,
    recorded TEXT NOT NULL
);

CREATE TABLE approval (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL REFERENCES plan (digest),
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    at TEXT NOT NULL
);
CREATE INDEX approval_digest ON approval (digest);

-- What was done.

CREATE TABLE rollout (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE REFERENCES plan (digest),
    header TEXT NOT NULL, -- of the plan, JSON
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    approved TEXT NOT NULL,
    max_in_flight INTEGER NOT NULL,
    forgiven INTEGER NOT NULL, -- failed stacks when a person last resumed
    control INTEGER NOT NULL -- grows with every change of status, undo or forgiven
);

CREATE TABLE stack (
    rollout TEXT NOT NULL REFERENCES rollout (id),
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    place TEXT NOT NULL,
    body TEXT NOT NULL, -- the plan's stack, JSON
    phase TEXT NOT NULL,
    step INTEGER NOT NULL,
    due TEXT NOT NULL,
    since TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (rollout, id)
) WITHOUT ROWID;

CREATE TABLE change (
    rollout TEXT NOT NULL REFERENCES rollout (id),
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    stack TEXT NOT NULL,
    step INTEGER NOT NULL,
    ref TEXT NOT NULL,
    action TEXT NOT NULL,
    body TEXT NOT NULL, -- the plan's change, JSON
    PRIMARY KEY (rollout, id)
);

-- Apart from change, because it is written at every step and read whole.
CREATE TABLE change_state (
    rollout TEXT NOT NULL,
    id TEXT NOT NULL,
    phase TEXT NOT NULL,
    wrote INTEGER NOT NULL, -- 0 or 1
    outputs TEXT NOT NULL, -- JSON object or ''
    attempt INTEGER NOT NULL,
    reason TEXT NOT NULL,
    updated TEXT NOT NULL,
    PRIMARY KEY (rollout, id),
    FOREIGN KEY (rollout, id) REFERENCES change (rollout, id)
) WITHOUT ROWID;

CREATE TABLE plan_item (
    rollout TEXT NOT NULL REFERENCES rollout (id),
    type TEXT NOT NULL, -- manual, exempt
    seq INTEGER NOT NULL,
    body TEXT NOT NULL, -- JSON
    PRIMARY KEY (rollout, type, seq)
) WITHOUT ROWID;

CREATE TABLE undo (
    rollout TEXT NOT NULL,
    stack TEXT NOT NULL,
    who TEXT NOT NULL, -- and why
    PRIMARY KEY (rollout, stack),
    FOREIGN KEY (rollout, stack) REFERENCES stack (rollout, id)
) WITHOUT ROWID;

CREATE TABLE intent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    rollout TEXT NOT NULL,
    change TEXT NOT NULL,
    place TEXT NOT NULL,
    direction TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    token TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    opened TEXT NOT NULL,
    lease_until TEXT NOT NULL,
    open INTEGER NOT NULL, -- 1 until it has an outcome
    FOREIGN KEY (rollout, change) REFERENCES change (rollout, id)
);
CREATE INDEX intent_open ON intent (rollout, change) WHERE open = 1;

CREATE TABLE outcome (
    intent INTEGER PRIMARY KEY REFERENCES intent (id),
    phase TEXT NOT NULL,
    wrote INTEGER NOT NULL,
    outputs TEXT NOT NULL,
    request_id TEXT NOT NULL,
    class TEXT NOT NULL,
    reason TEXT NOT NULL,
    found TEXT NOT NULL, -- JSON object or ''
    epoch INTEGER NOT NULL, -- of the lane that settled it
    at TEXT NOT NULL
);

CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    rollout TEXT NOT NULL REFERENCES rollout (id),
    chain TEXT NOT NULL, -- a place, or '' for the rollout itself
    seq INTEGER NOT NULL, -- from 1, without gaps within a chain
    at TEXT NOT NULL,
    name TEXT NOT NULL,
    stack TEXT NOT NULL,
    change TEXT NOT NULL,
    actor TEXT NOT NULL, -- '' is imdsctl itself
    reason TEXT NOT NULL,
    detail TEXT NOT NULL, -- JSON object or ''
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (rollout, chain, seq)
);

-- The last link of each chain, so that a cut-off end is seen too.
CREATE TABLE event_head (
    rollout TEXT NOT NULL,
    chain TEXT NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (rollout, chain)
) WITHOUT ROWID;

CREATE TABLE lease (
    place TEXT PRIMARY KEY,
    holder TEXT NOT NULL, -- '' when nobody holds it
    epoch INTEGER NOT NULL,
    until TEXT NOT NULL,
    process TEXT NOT NULL -- the process lock under which it was taken, '' without one
) WITHOUT ROWID;

-- +goose Down
DROP TABLE lease;
DROP TABLE event_head;
DROP TABLE event;
DROP TABLE outcome;
DROP TABLE intent;
DROP TABLE undo;
DROP TABLE plan_item;
DROP TABLE change_state;
DROP TABLE change;
DROP TABLE stack;
DROP TABLE rollout;
DROP TABLE approval;
DROP TABLE plan;
DROP TABLE posture_daily;
DROP TABLE evidence_metric;
DROP TABLE evidence_window;
DROP TABLE evidence_span;
DROP TABLE document;
DROP TABLE resource_version;
DROP TABLE resource;
DROP TABLE scan_scope;
DROP TABLE scan;
DROP TABLE account;
DROP TABLE kind;
DROP TABLE place;
