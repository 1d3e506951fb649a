ALTER TABLE service_states DROP COLUMN paused_stages;
