-- Log records of every process, for /api/logs. Not a read model: nothing in the log of events makes
-- these rows, so they are never rebuilt, and they go after LOG_RETENTION_DAYS.
-- depends: 0001.read-models
CREATE TABLE logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    level smallint NOT NULL,
    component text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    logger text NOT NULL,
    message text NOT NULL,
    correlation_id text NOT NULL,
    trace_id text NOT NULL,
    exception text NOT NULL,
    extra jsonb NOT NULL
);
CREATE INDEX logs_by_time ON logs (at DESC, id DESC);
CREATE INDEX logs_by_time_warnings ON logs (at DESC, id DESC) WHERE level >= 30;
CREATE INDEX logs_by_correlation ON logs (correlation_id) WHERE correlation_id <> '';
CREATE INDEX logs_by_trace ON logs (trace_id) WHERE trace_id <> '';
