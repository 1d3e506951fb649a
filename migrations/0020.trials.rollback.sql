DROP TABLE trial_cutoffs;
DROP TABLE trial_changes;
DROP TABLE trial_comparisons;
