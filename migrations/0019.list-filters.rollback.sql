CREATE INDEX events_level ON events (risk_level, started_at DESC, id DESC);
CREATE INDEX events_unreviewed ON events (started_at DESC, id DESC) WHERE NOT reviewed;
DROP INDEX events_level_score;
DROP INDEX events_camera_kind;
DROP INDEX events_kind;
