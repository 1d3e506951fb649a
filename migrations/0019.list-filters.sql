-- depends: 0001.read-models
-- Lists of events by pages, at any depth and with every filter. What an event is (level, reviewed,
-- fast path) stands before its time, so that each combination lies in one run of the index in the
-- order in which it is listed: a page is merged from the first rows of at most sixteen such runs,
-- without a look at rows that are not wanted.
CREATE INDEX events_kind ON events
    (risk_level, reviewed, is_fast_path, started_at DESC, id DESC) INCLUDE (risk_score)
    WHERE stage IS NOT NULL;
CREATE INDEX events_camera_kind ON events
    (camera_id, risk_level, reviewed, is_fast_path, started_at DESC, id DESC) INCLUDE (risk_score)
    WHERE stage IS NOT NULL;
-- Which levels have an event of at least some score.
CREATE INDEX events_level_score ON events (risk_level, risk_score) WHERE stage IS NOT NULL;
DROP INDEX events_level;
DROP INDEX events_unreviewed;
