-- depends: 0001.read-models
-- What a candidate detector on trial made of each picture, beside the one in service.
CREATE TABLE trial_comparisons (
    picture_id        text        PRIMARY KEY,
    camera_id         text        NOT NULL,
    captured_at       timestamptz NOT NULL,
    canary            boolean     NOT NULL, -- the candidate's answer went into the main line
    error             text,                 -- why the candidate gave none
    matched           bigint      NOT NULL,
    missing           bigint      NOT NULL,
    surplus           bigint      NOT NULL,
    agreement         double precision,
    drift             double precision,
    reference         text,
    reference_version text,
    reference_ms      double precision,
    candidate         text,
    candidate_version text,
    candidate_ms      double precision,
    ms                bigint      NOT NULL, -- position of the event that said so
    seq               bigint      NOT NULL
);
CREATE INDEX trial_comparisons_captured ON trial_comparisons (captured_at);

-- Who set the percentage of pictures that the candidate answers for, and why.
CREATE TABLE trial_changes (
    ms          bigint      NOT NULL,
    seq         bigint      NOT NULL,
    changed_at  timestamptz NOT NULL,
    actor       text        NOT NULL,
    old_percent bigint      NOT NULL,
    new_percent bigint      NOT NULL,
    reason      text        NOT NULL,
    PRIMARY KEY (ms, seq)
);

-- What retention decided: nothing captured before the newest of these is kept.
CREATE TABLE trial_cutoffs (
    as_of  timestamptz PRIMARY KEY,
    cutoff timestamptz NOT NULL
);
