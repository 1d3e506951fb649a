-- depends: 0001.read-models 0020.trials 0021.prompt-trials
-- A candidate prompt that answers for a share of the events: which events, and who set the share.
ALTER TABLE events
    ADD COLUMN model_canary            boolean, -- a candidate on trial answered
    ADD COLUMN model_candidate_failure text;    -- why it did not, where it was to
ALTER TABLE prompt_comparisons
    ADD COLUMN canary boolean NOT NULL DEFAULT false; -- the event has the candidate's answer
ALTER TABLE trial_changes
    ADD COLUMN setting text NOT NULL DEFAULT 'CANDIDATE_PERCENT'; -- whose percentage it is
