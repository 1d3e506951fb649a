-- Drops the rules and the marks: the log still says what was redacted, and when.
DROP TABLE retention_runs;
DROP TABLE file_redactions;
DROP TABLE redacted_pictures;
DROP TABLE redacted_files;
DROP TABLE detection_redactions;
DROP TABLE event_redactions;
ALTER TABLE detections DROP COLUMN recorded_at;
ALTER TABLE events DROP COLUMN held, DROP COLUMN held_by, DROP COLUMN held_at, DROP COLUMN hold;
