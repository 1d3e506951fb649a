-- The words by which an event is found: its summary, the notes of a person, what was seen, and the
-- model's reasoning while it is in force (the rules' is made of the same few sentences each time).
-- The weights say where a word counts most.
ALTER TABLE events ADD COLUMN words tsvector GENERATED ALWAYS AS (
    setweight(to_tsvector('english', COALESCE(
        CASE WHEN model_stage = stage THEN model_summary ELSE rule_summary END, '')), 'A')
    || setweight(to_tsvector('english', COALESCE(notes, '')), 'B')
    || setweight(jsonb_to_tsvector('english', COALESCE(facts -> 'objects', '[]'), '["string"]'), 'B')
    || setweight(to_tsvector('english', COALESCE(
        CASE WHEN model_stage = stage THEN model_reasoning END, '')), 'D')
) STORED;
CREATE INDEX events_words ON events USING gin (words);

-- What came in lately, for how long each stage takes: pictures lie in the order in which they came.
CREATE INDEX pictures_received ON pictures USING brin (received_at);
