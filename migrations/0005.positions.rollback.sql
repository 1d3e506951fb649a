DROP INDEX files_path;
DROP TABLE positions;
