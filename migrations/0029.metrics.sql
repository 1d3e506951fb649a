-- depends: 0001.read-models
-- What happened since the log began, in numbers: every row is one figure, whatever the load.
CREATE TABLE metric_counters (
    family text   NOT NULL,                 -- what is counted: entries, parked, closed …
    label  text   NOT NULL,
    value  bigint NOT NULL,
    PRIMARY KEY (family, label)
);

-- How long steps took: one row a stage and bucket, with one example that can be looked up.
CREATE TABLE metric_durations (
    stage         text   NOT NULL,
    bucket        bigint NOT NULL,          -- index of the first bound that is not below
    entries       bigint NOT NULL,
    total_ms      bigint NOT NULL,
    example_ms    bigint NOT NULL,          -- how long the example took
    example_trace text   NOT NULL,          -- its trace id, empty where it has none
    example_at    bigint NOT NULL,          -- when it was recorded, in milliseconds
    PRIMARY KEY (stage, bucket)
);

-- What the language model was used for.
CREATE TABLE metric_models (
    model          text   PRIMARY KEY,
    questions      bigint NOT NULL,
    tokens_in      bigint NOT NULL,
    tokens_out     bigint NOT NULL,
    tokens_cached  bigint NOT NULL,
    total_ms       bigint NOT NULL,
    shortened      bigint NOT NULL,
    newest_tokens  bigint NOT NULL,         -- of the newest question
    newest_window  bigint,                  -- its context, where the server tells
    newest_at      bigint NOT NULL,
    newest_id      text   NOT NULL
);

-- Batches that were opened and not closed yet, and when their first picture was detected.
CREATE TABLE metric_open_batches (
    batch_id  text   PRIMARY KEY,
    opened_ms bigint NOT NULL
);

-- Up to where each lane is counted in: what comes a second time does not count again.
CREATE TABLE metric_places (
    stream    text   NOT NULL,
    partition bigint NOT NULL,
    ms        bigint NOT NULL,
    seq       bigint NOT NULL,
    PRIMARY KEY (stream, partition)
);
