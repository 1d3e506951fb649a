DROP TABLE metric_places;
DROP TABLE metric_open_batches;
DROP TABLE metric_models;
DROP TABLE metric_durations;
DROP TABLE metric_counters;
