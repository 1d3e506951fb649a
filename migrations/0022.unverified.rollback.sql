ALTER TABLE events DROP COLUMN alert_within_seconds;
DROP TABLE unverified;
ALTER TABLE cameras DROP COLUMN when_unavailable;
