-- depends: 0001.read-models
-- The versions of the read models' tables. A rebuild fills a new version in a schema of its own
-- (`hsi_<projection>_v<version>`), then both change places in one transaction; the version that
-- was live is kept in such a schema until the next switch. A projection without a row here has
-- its first version live.
CREATE TABLE projection_versions (
    projection   text        NOT NULL,
    version      integer     NOT NULL,
    state        text        NOT NULL CHECK (state IN ('building', 'built', 'live', 'kept')),
    rule_version integer     NOT NULL, -- `version` of the read model's code that fills it
    incarnation  text        NOT NULL,
    events       bigint      NOT NULL DEFAULT 0, -- taken from the log by the rebuild
    started_at   timestamptz NOT NULL,
    switched_at  timestamptz,
    PRIMARY KEY (projection, version),
    -- At the end of a transaction: in a switch two versions exchange their states.
    UNIQUE (projection, state) DEFERRABLE INITIALLY DEFERRED
);
