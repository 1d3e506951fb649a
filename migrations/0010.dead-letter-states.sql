-- A redriven entry waits for its step again, and a discarded one goes no further on purpose. Of the
-- same entry parked again only the last time counts. Among several entries (a batch that escalated
-- and then closed) one that lies there counts before one that was redriven, and that before a
-- discarded one.
CREATE OR REPLACE VIEW picture_states AS
WITH waiting AS (
    SELECT p.*,
           CASE
               WHEN p.assessed_at IS NOT NULL THEN NULL
               WHEN p.batch_id IS NOT NULL THEN 'assess'
               WHEN p.detection_count > 0 THEN 'batch'
               WHEN p.detected_at IS NULL AND p.filtered_reason IS NULL THEN 'detect'
           END AS stage
    FROM pictures p
    WHERE p.received_at IS NOT NULL
)
SELECT w.*,
       k.parked_at,
       k.group_name AS parked_group,
       k.cause AS parked_cause,
       k.error AS parked_error,
       CASE
           WHEN w.assessed_at IS NOT NULL THEN 'assessed'
           WHEN w.stage IS NULL OR k.resolution = 'discarded' THEN 'filtered'
           WHEN k.cause IS NOT NULL THEN 'parked'
           ELSE 'pending'
       END AS state,
       CASE
           WHEN w.assessed_at IS NOT NULL THEN ''
           WHEN w.stage IS NULL AND w.detected_at IS NULL THEN w.filtered_reason
           WHEN w.stage IS NULL THEN 'no object at or above the threshold'
           WHEN k.resolution = 'discarded' THEN 'discarded after ' || k.cause
           ELSE COALESCE(k.cause, w.stage)
       END AS reason,
       -- A file is where its least finished picture is: the smallest rank.
       CASE
           WHEN w.assessed_at IS NOT NULL THEN 5
           WHEN w.stage IS NULL OR k.resolution = 'discarded' THEN 6
           WHEN k.cause IS NOT NULL THEN 1
           WHEN w.stage = 'detect' THEN 2
           WHEN w.stage = 'batch' THEN 3
           ELSE 4
       END AS rank
FROM waiting w
LEFT JOIN LATERAL (
    SELECT newest.parked_at, newest.group_name, newest.cause, newest.error, newest.resolution
    FROM (
        SELECT DISTINCT ON (e.group_name, e.event_id)
               e.parked_at, e.group_name, e.cause, e.error, e.resolution, e.ms, e.seq
        FROM parked_entries e
        WHERE e.stage = w.stage
          AND (e.picture_id = w.picture_id OR (e.picture_id IS NULL AND e.batch_id = w.batch_id))
        ORDER BY e.group_name, e.event_id, e.ms DESC, e.seq DESC
    ) newest
    ORDER BY newest.resolution DESC NULLS FIRST, newest.ms DESC, newest.seq DESC
    LIMIT 1
) k ON k.resolution IS DISTINCT FROM 'redriven';
