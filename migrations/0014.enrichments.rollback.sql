-- The extension stays: others may use it by now.
DROP TABLE enrichment_redactions;
DROP TABLE sightings;
DROP TABLE enrichments;
