-- Retention: what was seen before a cut-off is shown no more, whatever is replayed.
-- Each read model keeps the rules it was told, so that rows that come later (another interleaving
-- of the streams, a rebuild) meet them too.

-- Legal hold; `hold` is the position of the last applied event.held.
ALTER TABLE events
    ADD COLUMN held boolean NOT NULL DEFAULT false,
    ADD COLUMN held_by text,
    ADD COLUMN held_at timestamptz,
    ADD COLUMN hold bigint[];

CREATE TABLE event_redactions (
    camera_id          text        NOT NULL,
    as_of              timestamptz NOT NULL,
    cutoff             timestamptz NOT NULL,
    kept               text[]      NOT NULL,
    events_deleted     bigint      NOT NULL,
    detections_deleted bigint      NOT NULL,
    images_deleted     bigint      NOT NULL,
    space_reclaimed    bigint      NOT NULL,
    PRIMARY KEY (camera_id, as_of)
);

ALTER TABLE detections ADD COLUMN recorded_at timestamptz NOT NULL DEFAULT '-infinity';

CREATE TABLE detection_redactions (
    camera_id text        NOT NULL,
    as_of     timestamptz NOT NULL,
    cutoff    timestamptz NOT NULL,
    kept      text[]      NOT NULL,
    PRIMARY KEY (camera_id, as_of)
);

-- The ledger's rows stay, and these mark them: a file's state is never forgotten.
CREATE TABLE redacted_files (
    file_id     text        PRIMARY KEY,
    redacted_at timestamptz NOT NULL
);
CREATE INDEX redacted_files_at ON redacted_files (redacted_at);

CREATE TABLE redacted_pictures (
    picture_id  text        PRIMARY KEY,
    redacted_at timestamptz NOT NULL
);
CREATE INDEX redacted_pictures_at ON redacted_pictures (redacted_at);

CREATE TABLE file_redactions (
    camera_id     text        NOT NULL,
    as_of         timestamptz NOT NULL,
    cutoff        timestamptz NOT NULL,
    kept_pictures text[]      NOT NULL,
    kept_files    text[]      NOT NULL,
    PRIMARY KEY (camera_id, as_of)
);

CREATE TABLE retention_runs (
    as_of              timestamptz PRIMARY KEY,
    cutoff             timestamptz NOT NULL,
    finished_at        timestamptz NOT NULL,
    retention_days     bigint      NOT NULL,
    events_deleted     bigint      NOT NULL,
    detections_deleted bigint      NOT NULL,
    gpu_stats_deleted  bigint      NOT NULL,
    images_deleted     bigint      NOT NULL,
    space_reclaimed    bigint      NOT NULL
);
