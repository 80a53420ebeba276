"""Content hashes that name every row of a cache (pure).

A key is a 128-bit UUID: the first half of a SHA-256. `text_key` hashes the bare text, so that SQL can
re-derive it: `CAST(left(sha256(text), 32) AS UUID)`.
"""

import hashlib
import json
from uuid import UUID

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: object) -> str:
    """Write `value` so that equal values give equal text: sorted keys, no spaces, no escapes."""
    return _ENCODER.encode(value)


def text_key(text: str) -> UUID:
    """Return the key of a text, such as a response or a text to embed."""
    return UUID(bytes=hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16])


def key(kind: str, *parts: object) -> UUID:
    """Return the key of a row from everything that identifies it.

    Args:
        kind: What the row is; keeps the keys of different tables apart.
        parts: JSON values or UUIDs.
    """
    return text_key(canonical_json([kind, *(str(part) if isinstance(part, UUID) else part for part in parts)]))
