"""Results of other people's benchmarks: one reader per format, and one writer into the cache."""
