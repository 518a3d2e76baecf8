-- +goose Up

-- What was sent to owners, to which place and when. Targets are names without secrets. Times are Unix milliseconds.
CREATE TABLE attention_sent (
    item TEXT NOT NULL,
    target TEXT NOT NULL,
    at INTEGER NOT NULL,
    owner TEXT NOT NULL,
    digest TEXT NOT NULL, -- of what it said
    PRIMARY KEY (item, target, at)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE attention_sent;
