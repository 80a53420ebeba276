"""The HTML report: one file with everything in it, that asks nothing of anyone."""
