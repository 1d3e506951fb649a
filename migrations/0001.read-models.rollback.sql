-- Drops every read model and checkpoint: the log still holds all of it.
DROP TABLE service_states;
DROP TABLE gpu_sources;
DROP TABLE gpu_samples;
DROP TABLE events;
DROP TABLE detections;
DROP VIEW file_states;
DROP VIEW picture_states;
DROP TABLE parked_entries;
DROP TABLE pictures;
DROP TABLE files;
DROP TABLE cameras;
DROP TABLE refused_events;
DROP TABLE checkpoints;
