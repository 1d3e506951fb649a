-- depends: 0001.read-models
-- What is done with a camera's pictures while nothing can look at them: hold, notify.
ALTER TABLE cameras ADD COLUMN when_unavailable text NOT NULL DEFAULT 'hold';

-- Pictures that people were told of before anybody had looked at them.
CREATE TABLE unverified (
    id          text        PRIMARY KEY, -- of the event that told it
    camera_id   text        NOT NULL,
    picture_id  text        NOT NULL,
    file_id     text        NOT NULL,
    captured_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    service     text        NOT NULL,
    reason      text        NOT NULL
);
CREATE INDEX unverified_recorded ON unverified (recorded_at, id);

-- The limit that an assessment was made with: recorded later after the last picture than this, it
-- is too old to alert. NULL: it was made before there was a limit.
ALTER TABLE events ADD COLUMN alert_within_seconds bigint;
