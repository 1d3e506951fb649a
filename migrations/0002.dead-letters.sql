-- depends: 0001.read-models
-- What became of a parked entry, which model refused it, and lists of files by pages.

ALTER TABLE parked_entries
    ADD COLUMN model         text,
    ADD COLUMN model_version text,
    ADD COLUMN resolution    text, -- redriven, discarded; NULL: it lies there
    ADD COLUMN resolved_at   timestamptz,
    ADD COLUMN resolved_by   text;
CREATE INDEX parked_entries_open ON parked_entries (group_name, cause) WHERE resolution IS NULL;

CREATE INDEX files_newest ON files (received_at DESC, file_id DESC);
