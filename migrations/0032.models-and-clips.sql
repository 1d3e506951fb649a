-- depends: 0015.model-context 0027.deleted-logs
-- Which model a service said to be; NULL: it is no model, or its word came before this.
ALTER TABLE service_states ADD COLUMN model jsonb;

-- How many clips of events a retention run deleted.
ALTER TABLE retention_runs ADD COLUMN clips_deleted bigint NOT NULL DEFAULT 0;

-- A camera's pictures of a time, for clips and for days without any.
CREATE INDEX pictures_camera ON pictures (camera_id, captured_at);

-- What the language model took for an event in all, however often it was asked about it: the sums,
-- and what they are made of (id of the refinement → tokens in and out), so that a refinement that
-- comes again adds nothing. NULL: it was not asked, or before this; a rebuild fills it.
ALTER TABLE events
    ADD COLUMN tokens_in bigint,
    ADD COLUMN tokens_out bigint,
    ADD COLUMN tokens_by_refinement jsonb;
