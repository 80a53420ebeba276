"""Hashes of weights on this machine: what of them can affect responses, hashed again only when it has changed."""

import json
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from toolkit.core.files import atomic_path, content_sha256

_IRRELEVANT_FILES = (
    *("*.md", "*.rst", "*.pdf", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp", "*.ipynb", "*.log"),
    *("license*", "licence*", "notice*", "use_policy*", "citation*", "events.out.tfevents.*"),
    *("training_args.bin", "trainer_state.json", "optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*.pth"),
)
"""Files beside weights that cannot change a response: documents, pictures, and what training runs leave behind."""


def affects_responses(name: str) -> bool:
    """Return whether a file of a checkpoint can affect responses; if in doubt, True.

    Leaving out too many files would serve the responses of other weights; counting too many only generates them again. So
    only the listed kinds are left out.
    """
    file = name.rsplit("/", 1)[-1]
    return not any(fnmatch(file.lower(), pattern) for pattern in _IRRELEVANT_FILES)


def hash_weights(path: Path, downloads: Path) -> str:
    """Hash the files of a local checkpoint or adapter that can affect responses."""
    return hash_local(path, downloads, affects_responses)


def hash_local(path: Path, downloads: Path, counts: Callable[[str], bool] | None = None) -> str:
    """Hash local content, reading it again only if a name, size or modification time has changed.

    Args:
        path: A file or folder.
        downloads: Folder in which hashes are remembered.
        counts: Whether a file below a folder counts, given its name; default: every file does.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stamp = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    memo_file = downloads / "hashes.json"
    try:
        memo = json.loads(memo_file.read_text())
    except (OSError, ValueError):
        memo = {}
    name = str(path) + (f" {counts.__name__}" if counts else "")
    remembered = memo.get(name)
    if remembered and remembered["stamp"] == stamp:
        return str(remembered["sha256"])
    digest = content_sha256(path, counts) if counts else content_sha256(path)
    memo[name] = {"stamp": stamp, "sha256": digest}
    downloads.mkdir(parents=True, exist_ok=True)
    with atomic_path(memo_file) as draft:
        draft.write_text(json.dumps(memo))
    return digest
