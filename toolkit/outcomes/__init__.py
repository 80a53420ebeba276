"""Imports other people's results as suites."""
