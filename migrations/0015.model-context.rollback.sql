ALTER TABLE events
    DROP COLUMN model_left_out,
    DROP COLUMN model_context_window,
    DROP COLUMN model_tokens_cached;
