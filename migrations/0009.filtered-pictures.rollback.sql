DROP VIEW file_states;
DROP VIEW picture_states;
ALTER TABLE pictures DROP COLUMN filtered_reason;

-- Where a picture stands. This view and `file_states` are the one place that decides it.
-- A parked entry counts only while the step it was parked at has not been done after all.
CREATE VIEW picture_states AS
WITH waiting AS (
    SELECT p.*,
           CASE
               WHEN p.assessed_at IS NOT NULL THEN NULL
               WHEN p.batch_id IS NOT NULL THEN 'assess'
               WHEN p.detected_at IS NULL THEN 'detect'
               WHEN p.detection_count > 0 THEN 'batch'
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
           WHEN w.stage IS NULL THEN 'filtered'
           WHEN k.cause IS NOT NULL THEN 'parked'
           ELSE 'pending'
       END AS state,
       CASE
           WHEN w.assessed_at IS NOT NULL THEN ''
           WHEN w.stage IS NULL THEN 'no object at or above the threshold'
           ELSE COALESCE(k.cause, w.stage)
       END AS reason,
       -- A file is where its least finished picture is: the smallest rank.
       CASE
           WHEN w.assessed_at IS NOT NULL THEN 5
           WHEN w.stage IS NULL THEN 6
           WHEN k.cause IS NOT NULL THEN 1
           WHEN w.stage = 'detect' THEN 2
           WHEN w.stage = 'batch' THEN 3
           ELSE 4
       END AS rank
FROM waiting w
LEFT JOIN LATERAL (
    SELECT e.parked_at, e.group_name, e.cause, e.error
    FROM parked_entries e
    WHERE e.stage = w.stage
      AND (e.picture_id = w.picture_id OR (e.picture_id IS NULL AND e.batch_id = w.batch_id))
    ORDER BY e.ms DESC, e.seq DESC
    LIMIT 1
) k ON true;

-- Where a file stands: exactly one state and its reason.
CREATE VIEW file_states AS
SELECT f.*,
       CASE
           WHEN f.media IS NOT NULL AND f.frames = 0 THEN 'filtered'
           WHEN f.media IS NOT NULL THEN COALESCE(s.state, 'pending')
           WHEN f.duplicate_of IS NOT NULL THEN 'duplicate'
           ELSE 'rejected'
       END AS state,
       CASE
           WHEN f.media IS NOT NULL AND f.frames = 0 THEN 'the video holds no frame'
           WHEN f.media IS NOT NULL THEN COALESCE(s.reason, 'detect')
           ELSE COALESCE(f.duplicate_of, f.rejected_reason, '')
       END AS reason
FROM files f
LEFT JOIN LATERAL (
    SELECT p.state, p.reason
    FROM picture_states p
    WHERE p.picture_id = ANY (f.picture_ids)
    ORDER BY p.rank, p.frame
    LIMIT 1
) s ON f.media IS NOT NULL;
