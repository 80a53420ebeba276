"""Specialists: the LoRA adapters of the quickstart's pool, one skill each, with the code that trains them."""
