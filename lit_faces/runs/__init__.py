"""A run of an experiment: what was typed, its folder, what is built from it, and its way to the test."""
