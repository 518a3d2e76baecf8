-- +goose Up

-- What sources other than a metric saw: calls in CloudTrail, software, traces, certifications. Times are Unix milliseconds, 0 for none.

CREATE TABLE finding_import (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    origin TEXT NOT NULL,
    subject TEXT NOT NULL, -- JSON, '' where it tells of several
    findings INTEGER NOT NULL, -- that were kept of it
    sample INTEGER NOT NULL, -- 1 where what it does not show means nothing
    replaced_by INTEGER NOT NULL, -- the import that holds in its place, or 0
    body TEXT NOT NULL -- JSON
);
CREATE INDEX finding_import_source ON finding_import (source);

-- The files whose findings are here already, by what they hold.
CREATE TABLE finding_file (
    source TEXT NOT NULL,
    digest TEXT NOT NULL,
    import INTEGER NOT NULL,
    PRIMARY KEY (source, digest)
) WITHOUT ROWID;

-- Texts that many findings share. The id 0 stands for the empty one.
CREATE TABLE finding_text (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE, -- the first 16 bytes of its SHA-256
    text TEXT NOT NULL
);

CREATE TABLE finding_subject (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL, -- '' is any
    region TEXT NOT NULL, -- '' is any
    kind TEXT NOT NULL,
    name INTEGER NOT NULL, -- a text
    UNIQUE (account, region, kind, name)
);

-- Findings are counted by day. what, product, version, detail and origin are texts.
CREATE TABLE finding (
    subject INTEGER NOT NULL,
    import INTEGER NOT NULL,
    what INTEGER NOT NULL,
    product INTEGER NOT NULL,
    version INTEGER NOT NULL,
    detail INTEGER NOT NULL,
    origin INTEGER NOT NULL,
    hop_limit INTEGER NOT NULL,
    day INTEGER NOT NULL, -- since 1970
    calls INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (subject, import, what, product, version, detail, origin, hop_limit, day)
) WITHOUT ROWID;
CREATE INDEX finding_of_import ON finding (import);

-- +goose Down
DROP TABLE finding;
DROP TABLE finding_subject;
DROP TABLE finding_text;
DROP TABLE finding_file;
DROP TABLE finding_import;
