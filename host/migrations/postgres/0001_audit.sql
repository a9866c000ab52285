-- One row for each call.
CREATE TABLE audit_calls (
    instance   text NOT NULL,
    call       bigint NOT NULL,
    request_id text NOT NULL,
    time       timestamptz NOT NULL,
    rpc_id     text NOT NULL,
    method     text NOT NULL,
    subject    text NOT NULL,
    role       text NOT NULL,
    kind       text NOT NULL,
    tool       text NOT NULL,
    backend    text NOT NULL,
    session    text NOT NULL,
    -- JSON as it was sent, minus secrets; as text, because jsonb changes numbers and refuses \u0000.
    arguments  text,
    status     text NOT NULL,
    error      text,
    latency_ms double precision,
    notes      text,
    -- When this row last changed, by the clock of the database: what `audit tail` follows.
    changed    timestamptz NOT NULL,
    PRIMARY KEY (instance, call)
);
CREATE INDEX audit_calls_time ON audit_calls (time);
CREATE INDEX audit_calls_tool ON audit_calls (tool, time);
CREATE INDEX audit_calls_status ON audit_calls (status, time);
CREATE INDEX audit_calls_changed ON audit_calls (changed);

-- How much of each instance's journal is in this store; written in the transaction that brings the records.
CREATE TABLE journal_position (
    instance text NOT NULL PRIMARY KEY,
    seq      bigint NOT NULL
);
