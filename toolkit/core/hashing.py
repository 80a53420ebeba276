"""Content hashes that name every row of a cache (pure).

A key is a 128-bit UUID: the first half of a SHA-256. `text_key` hashes the bare text, so that SQL can
re-derive it: `CAST(left(sha256(text), 32) AS UUID)`.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from uuid import UUID


def canonical_json(value: object) -> str:
    """Write `value` so that equal values give equal text: sorted keys, no spaces, no escapes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def text_key(text: str) -> UUID:
    """Return the key of a text: of a response, or of what an encoder embeds."""
    return UUID(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32])


def key(kind: str, *parts: object) -> UUID:
    """Return the key of a row of the given kind from all that identifies it.

    Args:
        kind: What the row is; keeps keys of different tables apart.
        parts: JSON values or UUIDs.
    """
    return text_key(canonical_json([kind, *(str(part) if isinstance(part, UUID) else part for part in parts)]))


def content_sha256(path: Path, counts: Callable[[str], bool] = lambda name: True) -> str:
    """Return the SHA-256 of a file, or of a folder as the hash of its sorted `sha256  name` lines.

    Names are relative to the folder, so moving it changes nothing; hidden files and bytecode do not count.

    Args:
        path: The file or folder.
        counts: Tells of a name below a folder whether that file counts.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith((".", "__pycache__")) for part in file.relative_to(path).parts)
    )
    names = [name for name in names if counts(name)]
    listing = "".join(f"{content_sha256(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()
