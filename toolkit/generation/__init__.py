"""Fills a cache: generates, scores, plans, profiles and verifies."""
