-- depends: 0009.filtered-pictures 0010.dead-letter-states
-- Pictures that are on their way or parked, few among all, and the files that they came out of.
CREATE INDEX pictures_open ON pictures (picture_id)
    WHERE received_at IS NOT NULL AND assessed_at IS NULL
      AND (batch_id IS NOT NULL OR detection_count > 0
           OR (detected_at IS NULL AND filtered_reason IS NULL));
CREATE INDEX files_first_picture ON files ((picture_ids[1])) WHERE media IS NOT NULL;
CREATE INDEX files_without_frames ON files (file_id)
    WHERE media = 'video' AND picture_ids = '{}' AND frames IS DISTINCT FROM 0;

-- When a parked entry failed first and last, at what first, and how long it waited in between.
-- NULL: nobody wrote that down.
ALTER TABLE parked_entries
    ADD COLUMN first_failed_at timestamptz,
    ADD COLUMN first_cause     text,
    ADD COLUMN last_failed_at  timestamptz,
    ADD COLUMN retry_delays    double precision[];
-- The same entry, parked again after it was redriven.
CREATE INDEX parked_entries_event ON parked_entries (event_id);
