"""Replays a cache without generating: the table, the environments, exact values."""
