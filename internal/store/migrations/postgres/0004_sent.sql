-- +goose Up

-- What was sent to owners, to which place and when. Targets are names without secrets. Times are Unix milliseconds.
CREATE TABLE attention_sent (
    item TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL, -- of what it said
    PRIMARY KEY (item, target, at)
);

-- +goose Down
DROP TABLE attention_sent;
