DROP TABLE prompt_cutoffs;
DROP TABLE prompt_comparisons;
