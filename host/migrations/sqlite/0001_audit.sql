-- One row for each call. Times are UTC, RFC 3339, with a fixed number of digits, so that they sort as text.
CREATE TABLE audit_calls (
    instance   TEXT NOT NULL,
    call       INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    time       TEXT NOT NULL,
    rpc_id     TEXT NOT NULL,
    method     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    role       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    tool       TEXT NOT NULL,
    backend    TEXT NOT NULL,
    session    TEXT NOT NULL,
    arguments  TEXT,
    status     TEXT NOT NULL,
    error      TEXT,
    latency_ms REAL,
    notes      TEXT,
    -- When this row last changed, by the clock of the database: what `audit tail` follows.
    changed    TEXT NOT NULL,
    PRIMARY KEY (instance, call)
);
CREATE INDEX audit_calls_time ON audit_calls (time);
CREATE INDEX audit_calls_tool ON audit_calls (tool, time);
CREATE INDEX audit_calls_status ON audit_calls (status, time);
CREATE INDEX audit_calls_changed ON audit_calls (changed);

-- How much of each instance's journal is in this store; written in the transaction that brings the records.
CREATE TABLE journal_position (
    instance TEXT NOT NULL PRIMARY KEY,
    seq      INTEGER NOT NULL
);
