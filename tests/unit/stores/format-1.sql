-- A state as version 1 of the tables held it.
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE streams (
    uid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    body TEXT NOT NULL            -- StreamRecord as JSON
) STRICT, WITHOUT ROWID;

CREATE TABLE removed (            -- streams that are no more, and what they were called: their accounts stay
    uid TEXT PRIMARY KEY,
    name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE positions (
    stream TEXT NOT NULL,
    shard TEXT NOT NULL,
    outlet TEXT NOT NULL,
    position INTEGER NOT NULL,    -- every sequence up to here is done
    PRIMARY KEY (stream, shard, outlet)
) STRICT, WITHOUT ROWID;

CREATE TABLE done (               -- what is done beyond the position, in chunks so that a commit writes little
    stream TEXT NOT NULL,
    shard TEXT NOT NULL,
    outlet TEXT NOT NULL,
    chunk INTEGER NOT NULL,
    rows BLOB NOT NULL,
    PRIMARY KEY (stream, shard, outlet, chunk)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (         -- an intent until `finished_ms` is set, a manifest from then on
    stream TEXT NOT NULL,
    outlet TEXT NOT NULL,
    key TEXT NOT NULL,
    newest_hour INTEGER NOT NULL,
    finished_ms INTEGER,
    body TEXT NOT NULL,           -- Intent as JSON, without its rows
    rows BLOB NOT NULL,
    PRIMARY KEY (stream, outlet, key)
) STRICT;
CREATE INDEX deliveries_open ON deliveries (stream) WHERE finished_ms IS NULL;
CREATE INDEX deliveries_newest ON deliveries (stream, outlet, newest_hour);

CREATE TABLE account (
    stream TEXT NOT NULL,
    outlet TEXT NOT NULL,         -- '' for what is counted before outlets part: accepted
    hour INTEGER NOT NULL,
    term TEXT NOT NULL,
    rows INTEGER NOT NULL,
    PRIMARY KEY (stream, outlet, hour, term)
) STRICT, WITHOUT ROWID;

CREATE TABLE banked (segment TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

CREATE TABLE replays (
    stream TEXT NOT NULL,
    token TEXT NOT NULL,
    finished INTEGER NOT NULL,
    hours TEXT NOT NULL,
    rows BLOB NOT NULL,
    PRIMARY KEY (stream, token)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 1;
INSERT INTO meta VALUES ('epoch', 7);
INSERT INTO streams VALUES ('u1', 'clicks',
    '{"uid": "u1", "name": "clicks", "origin": "config", "definition": "{}", "version": 1, "created_ms": 5}');
INSERT INTO banked VALUES ('000000000001-5f1c09aa31d2e8b4'), ('000000000002-5f1c09aa31d2e8b4');
INSERT INTO account VALUES ('u1', '', 0, 'accepted', 3);
INSERT INTO positions VALUES ('u1', 'log-5f1c09aa31d2e8b4-put', 'destination', 2);
