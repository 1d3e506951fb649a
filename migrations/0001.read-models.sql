-- The read models. Everything here is derived from the event log and may be dropped and rebuilt.
-- A column is written by one kind of event only (or by a rule that does not depend on order), so
-- that the streams can be applied in any interleaving: a row may exist before the event that fills
-- its main columns has been applied. The queries leave such rows out.

-- How far each projection has applied each partition of each stream.
CREATE TABLE checkpoints (
    projection  text        NOT NULL,
    version     integer     NOT NULL,
    stream      text        NOT NULL,
    partition   integer     NOT NULL,
    ms          bigint      NOT NULL,
    seq         bigint      NOT NULL,
    incarnation text        NOT NULL,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (projection, version, stream, partition)
);

-- Events that PostgreSQL refused, one by one: they were passed over so that the others went on.
CREATE TABLE refused_events (
    projection text        NOT NULL,
    version    integer     NOT NULL,
    stream     text        NOT NULL,
    partition  integer     NOT NULL,
    ms         bigint      NOT NULL,
    seq        bigint      NOT NULL,
    event_id   text        NOT NULL,
    event_tag  text        NOT NULL,
    error      text        NOT NULL,
    refused_at timestamptz NOT NULL,
    PRIMARY KEY (projection, version, stream, partition, ms, seq)
);

-- --- cameras ------------------------------------------------------------------------------------

CREATE TABLE cameras (
    id           text    PRIMARY KEY,
    name         text,
    folder       text,
    source       text,
    enabled      boolean NOT NULL DEFAULT true,
    entry_point  boolean NOT NULL DEFAULT false,
    confirmed    boolean NOT NULL DEFAULT false,
    created_at   timestamptz, -- NULL until camera.registered was applied
    removed_at   timestamptz,
    last_seen_at timestamptz,
    last_file_at timestamptz,
    changed      bigint[]     -- position (ms, seq) of the last applied event of stream `cameras`
);

-- --- ledger -------------------------------------------------------------------------------------

CREATE TABLE files (
    file_id          text        PRIMARY KEY,
    camera_id        text        NOT NULL,
    path             text        NOT NULL,
    sha256           text,
    size_bytes       bigint      NOT NULL,
    media            text,
    captured_at      timestamptz,
    captured_from    text,
    received_at      timestamptz NOT NULL,
    width            bigint,
    height           bigint,
    duration_seconds double precision,
    frames           bigint,
    duplicate_of     text,
    rejected_reason  text,
    rejected_detail  text,
    -- What was taken out of it: one picture for an image, the frames for a video. The same picture
    -- can come out of two files (the same bytes again after DEDUPE_TTL_SECONDS).
    picture_ids      text[]      NOT NULL DEFAULT '{}'
);
CREATE INDEX files_camera ON files (camera_id);
CREATE INDEX files_duplicate_of ON files (duplicate_of) WHERE duplicate_of IS NOT NULL;

-- fillfactor: a picture's row is updated as it goes its way; free room keeps that in its page.
CREATE TABLE pictures (
    picture_id      text PRIMARY KEY,
    camera_id       text NOT NULL,
    file_id         text,
    uri             text,
    captured_at     timestamptz,
    frame           bigint,
    width           bigint,
    height          bigint,
    received_at     timestamptz, -- NULL until image.received was applied
    detected_at     timestamptz,
    detection_count integer,
    model           text,
    model_version   text,
    batch_id        text,
    event_id        text,
    assessed_at     timestamptz
) WITH (fillfactor = 60);
CREATE INDEX pictures_batch ON pictures (batch_id) WHERE batch_id IS NOT NULL;

-- What was moved aside; `stage` is the step a picture waits for because of it (NULL: none).
CREATE TABLE parked_entries (
    partition       integer     NOT NULL,
    ms              bigint      NOT NULL,
    seq             bigint      NOT NULL,
    camera_id       text        NOT NULL,
    source_stream   text        NOT NULL,
    source_position text        NOT NULL,
    group_name      text        NOT NULL,
    stage           text,
    event_id        text        NOT NULL,
    event_tag       text        NOT NULL,
    cause           text        NOT NULL,
    error           text        NOT NULL,
    attempts        bigint      NOT NULL,
    service_version text        NOT NULL,
    parked_at       timestamptz NOT NULL,
    picture_id      text,
    file_id         text,
    batch_id        text,
    PRIMARY KEY (partition, ms, seq)
);
CREATE INDEX parked_entries_picture ON parked_entries (picture_id, stage);
CREATE INDEX parked_entries_batch ON parked_entries (batch_id, stage);

-- Where a picture stands. This view and `file_states` are the one place that decides it.
-- A parked entry counts only while the step it was parked at has not been done after all.
CREATE VIEW picture_states AS
WITH waiting AS (
    SELECT p.*,
           CASE
               WHEN p.assessed_at IS NOT NULL THEN NULL
               WHEN p.batch_id IS NOT NULL THEN 'assess'
               WHEN p.detected_at IS NULL THEN 'detect'
               WHEN p.detection_count > 0 THEN 'batch'
           END AS stage
    FROM pictures p
    WHERE p.received_at IS NOT NULL
)
SELECT w.*,
       k.parked_at,
       k.group_name AS parked_group,
       k.cause AS parked_cause,
       k.error AS parked_error,
       CASE
           WHEN w.assessed_at IS NOT NULL THEN 'assessed'
           WHEN w.stage IS NULL THEN 'filtered'
           WHEN k.cause IS NOT NULL THEN 'parked'
           ELSE 'pending'
       END AS state,
       CASE
           WHEN w.assessed_at IS NOT NULL THEN ''
           WHEN w.stage IS NULL THEN 'no object at or above the threshold'
           ELSE COALESCE(k.cause, w.stage)
       END AS reason,
       -- A file is where its least finished picture is: the smallest rank.
       CASE
           WHEN w.assessed_at IS NOT NULL THEN 5
           WHEN w.stage IS NULL THEN 6
           WHEN k.cause IS NOT NULL THEN 1
           WHEN w.stage = 'detect' THEN 2
           WHEN w.stage = 'batch' THEN 3
           ELSE 4
       END AS rank
FROM waiting w
LEFT JOIN LATERAL (
    SELECT e.parked_at, e.group_name, e.cause, e.error
    FROM parked_entries e
    WHERE e.stage = w.stage
      AND (e.picture_id = w.picture_id OR (e.picture_id IS NULL AND e.batch_id = w.batch_id))
    ORDER BY e.ms DESC, e.seq DESC
    LIMIT 1
) k ON true;

-- Where a file stands: exactly one state and its reason.
CREATE VIEW file_states AS
SELECT f.*,
       CASE
           WHEN f.media IS NOT NULL AND f.frames = 0 THEN 'filtered'
           WHEN f.media IS NOT NULL THEN COALESCE(s.state, 'pending')
           WHEN f.duplicate_of IS NOT NULL THEN 'duplicate'
           ELSE 'rejected'
       END AS state,
       CASE
           WHEN f.media IS NOT NULL AND f.frames = 0 THEN 'the video holds no frame'
           WHEN f.media IS NOT NULL THEN COALESCE(s.reason, 'detect')
           ELSE COALESCE(f.duplicate_of, f.rejected_reason, '')
       END AS reason
FROM files f
LEFT JOIN LATERAL (
    SELECT p.state, p.reason
    FROM picture_states p
    WHERE p.picture_id = ANY (f.picture_ids)
    ORDER BY p.rank, p.frame
    LIMIT 1
) s ON f.media IS NOT NULL;

-- --- detections ---------------------------------------------------------------------------------

CREATE TABLE detections (
    id            text             PRIMARY KEY,
    picture_id    text             NOT NULL,
    file_id       text             NOT NULL,
    camera_id     text             NOT NULL,
    captured_at   timestamptz      NOT NULL,
    label         text             NOT NULL,
    confidence    double precision NOT NULL,
    x             double precision NOT NULL,
    y             double precision NOT NULL,
    width         double precision NOT NULL,
    height        double precision NOT NULL,
    model         text             NOT NULL,
    model_version text             NOT NULL,
    fallback      boolean          NOT NULL
);
CREATE INDEX detections_newest ON detections (captured_at DESC, id DESC);
CREATE INDEX detections_picture ON detections (picture_id);
CREATE INDEX detections_camera ON detections (camera_id, captured_at DESC, id DESC);
CREATE INDEX detections_label ON detections (label, captured_at DESC, id DESC);

-- --- events (timeline) --------------------------------------------------------------------------

-- What is in force (risk_score, risk_level, summary, reasoning) follows from the other columns:
-- the model's word counts when it is about the stage the rules have reached, else the rules' does.
CREATE TABLE events (
    id                   text PRIMARY KEY,
    camera_id            text NOT NULL,
    batch_id             text,
    started_at           timestamptz,
    ended_at             timestamptz,
    stage                text, -- NULL until risk.assessed was applied
    is_fast_path         boolean,
    close_reason         text,
    picture_ids          text[],
    labels               text[],
    rule_score           bigint,
    rule_level           text,
    floor                bigint,
    rule_summary         text,
    rule_reasoning       text,
    signals              jsonb,
    facts                jsonb,
    rules_version        text,
    assessed_at          timestamptz,
    model_stage          text,
    model_score          bigint,
    model_assessed_score bigint,
    model_assessed_level text,
    model                text,
    model_prompt_version text,
    model_prompt_sha256  text,
    model_raw_text       text,
    model_tokens_in      bigint,
    model_tokens_out     bigint,
    model_seconds        double precision,
    model_summary        text,
    model_reasoning      text,
    refined_at           timestamptz,
    reviewed             boolean NOT NULL DEFAULT false,
    notes                text    NOT NULL DEFAULT '',
    reviewed_by          text,
    reviewed_at          timestamptz,
    review               bigint[], -- position (ms, seq) of the last applied event.reviewed
    risk_score bigint GENERATED ALWAYS AS (
        CASE WHEN model_stage = stage THEN model_assessed_score ELSE rule_score END) STORED,
    risk_level text GENERATED ALWAYS AS (
        CASE WHEN model_stage = stage THEN model_assessed_level ELSE rule_level END) STORED,
    summary text GENERATED ALWAYS AS (
        CASE WHEN model_stage = stage THEN model_summary ELSE rule_summary END) STORED,
    reasoning text GENERATED ALWAYS AS (
        CASE WHEN model_stage = stage THEN model_reasoning ELSE rule_reasoning END) STORED
);
CREATE INDEX events_newest ON events (started_at DESC, id DESC);
CREATE INDEX events_camera ON events (camera_id, started_at DESC, id DESC);
CREATE INDEX events_level ON events (risk_level, started_at DESC, id DESC);
CREATE INDEX events_unreviewed ON events (started_at DESC, id DESC) WHERE NOT reviewed;
CREATE INDEX events_labels ON events USING gin (labels);

-- --- telemetry ----------------------------------------------------------------------------------

CREATE TABLE gpu_samples (
    host                text        NOT NULL,
    gpu_index           bigint      NOT NULL,
    sampled_at          timestamptz NOT NULL,
    source              text        NOT NULL,
    name                text,
    utilization_percent double precision,
    memory_used_mib     double precision,
    memory_total_mib    double precision,
    temperature_celsius double precision,
    power_watts         double precision,
    PRIMARY KEY (host, gpu_index, sampled_at)
);
CREATE INDEX gpu_samples_newest ON gpu_samples (sampled_at DESC);

CREATE TABLE gpu_sources (
    host       text        PRIMARY KEY,
    source     text        NOT NULL,
    sampled_at timestamptz NOT NULL
);

CREATE TABLE service_states (
    service    text        PRIMARY KEY,
    status     text        NOT NULL,
    message    text        NOT NULL,
    changed_at timestamptz NOT NULL,
    changed    bigint[]    NOT NULL -- position (ms, seq) of the event that said so
);
