-- How much of the language model's context a question took, and what did not fit into it.
ALTER TABLE events
    ADD COLUMN model_tokens_cached bigint,
    ADD COLUMN model_context_window bigint,
    ADD COLUMN model_left_out text[];
