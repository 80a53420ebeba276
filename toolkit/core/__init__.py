"""What everything else builds on: errors, hashes, tree arithmetic, progress, files. Imports no other package of the toolkit."""
