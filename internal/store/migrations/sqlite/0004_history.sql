-- +goose Up

-- The long look back: the same as evidence_window, over more time and in longer periods.
CREATE TABLE evidence_history (
    place INTEGER NOT NULL,
    source TEXT NOT NULL,
    scan INTEGER NOT NULL,
    resource INTEGER NOT NULL,
    metric INTEGER NOT NULL,
    span INTEGER NOT NULL,
    total INTEGER NOT NULL, -- calls
    last INTEGER NOT NULL, -- the last slot with a call, -1 for none
    data BLOB NOT NULL, -- coverage and points, packed; empty where nothing is covered
    PRIMARY KEY (place, source, scan, resource, metric)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE evidence_history;
