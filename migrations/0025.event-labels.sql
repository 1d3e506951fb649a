-- depends: 0019.list-filters
-- The labels of events, one row each, with all that lists are filtered and sorted by: a page of one
-- label is merged from the first rows of at most sixteen runs of an index, like every other page
-- (0019). A row follows from its event's row; the projection makes it anew with each change.
CREATE TABLE event_labels (
    id           text        NOT NULL, -- of the event
    label        text        NOT NULL,
    camera_id    text        NOT NULL,
    started_at   timestamptz NOT NULL,
    risk_level   text        NOT NULL,
    reviewed     boolean     NOT NULL,
    is_fast_path boolean     NOT NULL,
    risk_score   bigint      NOT NULL,
    PRIMARY KEY (id, label)
);
INSERT INTO event_labels
SELECT e.id, l.label, e.camera_id, e.started_at, e.risk_level, e.reviewed, e.is_fast_path,
       e.risk_score
FROM events e, LATERAL (SELECT DISTINCT unnest(e.labels) AS label) l
WHERE e.stage IS NOT NULL;
CREATE INDEX event_labels_kind ON event_labels
    (label, risk_level, reviewed, is_fast_path, started_at DESC, id DESC) INCLUDE (risk_score);
CREATE INDEX event_labels_camera_kind ON event_labels
    (label, camera_id, risk_level, reviewed, is_fast_path, started_at DESC, id DESC)
    INCLUDE (risk_score);
DROP INDEX events_labels;
