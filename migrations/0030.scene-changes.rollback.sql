DROP TABLE scene_changes;
ALTER TABLE cameras DROP COLUMN scene_change_threshold;
