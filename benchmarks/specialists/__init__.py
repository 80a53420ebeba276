"""Specialists: LoRA adapters of one skill each for the quickstart's pool, and what they are trained with."""
