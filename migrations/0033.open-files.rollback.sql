-- The log still holds all of it.
DROP INDEX parked_entries_event;
ALTER TABLE parked_entries
    DROP COLUMN first_failed_at,
    DROP COLUMN first_cause,
    DROP COLUMN last_failed_at,
    DROP COLUMN retry_delays;
DROP INDEX files_without_frames;
DROP INDEX files_first_picture;
DROP INDEX pictures_open;
