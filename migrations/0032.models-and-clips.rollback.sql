ALTER TABLE events
    DROP COLUMN tokens_by_refinement,
    DROP COLUMN tokens_out,
    DROP COLUMN tokens_in;
DROP INDEX pictures_camera;
ALTER TABLE retention_runs DROP COLUMN clips_deleted;
ALTER TABLE service_states DROP COLUMN model;
