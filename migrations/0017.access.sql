-- Who may call the API, and who did what: folded from the stream `system`.
-- All of one key lies in one partition, so its creation is applied before its revocation.
CREATE TABLE api_keys (
    id         text        PRIMARY KEY,
    name       text,
    role       text,
    sha256     text,
    cameras    text[],
    created_by text,
    created_at timestamptz,
    revoked_by text,
    revoked_at timestamptz
);

CREATE TABLE audit (
    id         text        PRIMARY KEY,
    acted_at   timestamptz NOT NULL,
    actor      text        NOT NULL,
    action     text        NOT NULL,
    resource   text        NOT NULL,
    outcome    text        NOT NULL,
    status     bigint      NOT NULL,
    address    text        NOT NULL,
    request_id text        NOT NULL,
    detail     text        NOT NULL
);
CREATE INDEX audit_page ON audit (acted_at DESC, id DESC);
CREATE INDEX audit_by_actor ON audit (actor, acted_at DESC, id DESC);
