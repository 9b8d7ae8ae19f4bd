"""A run of an experiment: what was typed, its folder, what is built, and its way from the first batch to the test."""
