-- depends: 0003.retention
-- How many log records a retention run deleted.
ALTER TABLE retention_runs ADD COLUMN logs_deleted bigint NOT NULL DEFAULT 0;
