DELETE FROM trial_changes WHERE setting <> 'CANDIDATE_PERCENT';
ALTER TABLE trial_changes DROP COLUMN setting;
ALTER TABLE prompt_comparisons DROP COLUMN canary;
ALTER TABLE events
    DROP COLUMN model_candidate_failure,
    DROP COLUMN model_canary;
