-- depends: 0001.read-models
-- What a candidate prompt on trial made of each event, beside the prompt in service.
CREATE TABLE prompt_comparisons (
    event_id          text        NOT NULL,
    stage             text        NOT NULL,
    camera_id         text        NOT NULL,
    ended_at          timestamptz NOT NULL,
    error             text,                 -- why the candidate gave no answer
    agrees            boolean,              -- both came to one level
    drift             bigint,               -- the candidate's score less the one in service
    model             text        NOT NULL,
    prompt_version    text        NOT NULL,
    seconds           double precision NOT NULL,
    candidate_model   text,
    candidate_prompt  text        NOT NULL,
    candidate_seconds double precision,
    ms                bigint      NOT NULL, -- position of the event that said so
    seq               bigint      NOT NULL,
    PRIMARY KEY (event_id, stage)
);
CREATE INDEX prompt_comparisons_ended ON prompt_comparisons (ended_at);

-- What retention decided: nothing that ended before the newest of these is kept.
CREATE TABLE prompt_cutoffs (
    as_of  timestamptz PRIMARY KEY,
    cutoff timestamptz NOT NULL
);
