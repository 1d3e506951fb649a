ALTER TABLE retention_runs DROP COLUMN logs_deleted;
