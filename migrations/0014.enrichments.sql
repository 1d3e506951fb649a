-- depends: 0001.read-models
-- What optional services added to events: captions, attributes, and sightings that are linked into
-- entities across cameras.

-- pgvector where the server has it (and lets this account create it); without it the same answers
-- are computed by the projection. No table depends on it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
        CREATE EXTENSION IF NOT EXISTS vector;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'pgvector is not created, this account may not: similarities are computed outside';
END
$$;

-- The last word of each service about each event; a word that adds something stands before one
-- that says why not.
CREATE TABLE enrichments (
    event_id      text        NOT NULL,
    service       text        NOT NULL,
    camera_id     text        NOT NULL,
    ended_at      timestamptz NOT NULL,
    closed_at     timestamptz NOT NULL, -- when the log took in the batch's end
    recorded_at   timestamptz NOT NULL,
    enriched      boolean     NOT NULL,
    code          text,       -- why it is not enriched
    why           text,
    picture_id    text,       -- what the caption is about
    caption       text,
    objects       jsonb,      -- what was said of each object
    model         text,
    model_version text,
    seconds       double precision,
    ms            bigint      NOT NULL, -- position of the event that said so
    seq           bigint      NOT NULL,
    PRIMARY KEY (event_id, service)
);

-- One object of one event that has an embedding. `parent_id` is the earlier sighting that is most
-- alike (none: the sighting begins an entity); `entity_id` the sighting that begins its entity.
CREATE TABLE sightings (
    id            text             PRIMARY KEY,
    detection_id  text             NOT NULL,
    event_id      text             NOT NULL,
    camera_id     text             NOT NULL,
    picture_id    text             NOT NULL,
    captured_at   timestamptz      NOT NULL,
    kind          text             NOT NULL,
    label         text             NOT NULL,
    confidence    double precision NOT NULL,
    x             double precision NOT NULL,
    y             double precision NOT NULL,
    width         double precision NOT NULL,
    height        double precision NOT NULL,
    model         text             NOT NULL,
    model_version text             NOT NULL,
    vector        real[]           NOT NULL, -- whole numbers of 16 bits: sums of them are exact
    threshold     double precision NOT NULL,
    window_hours  double precision NOT NULL,
    parent_id     text,
    similarity    double precision,
    entity_id     text             NOT NULL
);
CREATE INDEX sightings_entity ON sightings (entity_id, captured_at DESC, id DESC);
CREATE INDEX sightings_parent ON sightings (parent_id);
CREATE INDEX sightings_event ON sightings (event_id);
CREATE INDEX sightings_near ON sightings (kind, model, model_version, captured_at, id);
CREATE INDEX sightings_camera ON sightings (camera_id, captured_at);

CREATE TABLE enrichment_redactions (
    camera_id text        NOT NULL,
    as_of     timestamptz NOT NULL,
    cutoff    timestamptz NOT NULL,
    kept      text[]      NOT NULL,
    PRIMARY KEY (camera_id, as_of)
);
