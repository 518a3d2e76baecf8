-- +goose Up

-- The long look back: the same as evidence_window, over more time and in longer periods.
CREATE TABLE evidence_history (
    place BIGINT NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    scan BIGINT NOT NULL,
    resource BIGINT NOT NULL,
    metric BIGINT NOT NULL,
    span BIGINT NOT NULL,
    total BIGINT NOT NULL, -- calls
    last BIGINT NOT NULL, -- the last slot with a call, -1 for none
    data BYTEA NOT NULL, -- coverage and points, packed; empty where nothing is covered
    PRIMARY KEY (place, source, scan, resource, metric)
);

-- +goose Down
DROP TABLE evidence_history;
