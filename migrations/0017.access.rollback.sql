-- Drops the tables only: the log still says who held which key, and who did what.
DROP TABLE audit;
DROP TABLE api_keys;
