DROP INDEX pictures_received;
DROP INDEX events_words;
ALTER TABLE events DROP COLUMN words;
