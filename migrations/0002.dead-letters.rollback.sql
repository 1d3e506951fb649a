-- The log still holds all of it.
DROP INDEX files_newest;
DROP INDEX parked_entries_open;
ALTER TABLE parked_entries
    DROP COLUMN model,
    DROP COLUMN model_version,
    DROP COLUMN resolution,
    DROP COLUMN resolved_at,
    DROP COLUMN resolved_by;
