"""Statistical comparison of groups of runs over their seeds."""
