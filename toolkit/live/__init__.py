"""Live routing: a trained router decides, the suite's engines respond, the cache remembers; also as a server."""

from toolkit.live.pool import LivePool

__all__ = ["LivePool"]
