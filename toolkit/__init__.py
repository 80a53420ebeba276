"""Cache-first offline benchmark toolkit for hierarchical routing between language models."""

__version__ = "0.1.0"
