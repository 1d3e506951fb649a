CREATE INDEX events_labels ON events USING gin (labels);
DROP TABLE event_labels;
