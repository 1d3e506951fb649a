-- depends: 0001.read-models
-- Where in the log the facts about a picture, a file, an event or a setting stand, so that each
-- step of a lineage is read from the log by its position.
CREATE TABLE positions (
    about     text    NOT NULL, -- picture, event or file id; `settings`; `service:<name>`
    stream    text    NOT NULL,
    partition integer NOT NULL,
    ms        bigint  NOT NULL,
    seq       bigint  NOT NULL,
    PRIMARY KEY (about, stream, partition, ms, seq)
);

-- `hsi why <path>`.
CREATE INDEX files_path ON files (path);
