"""Where the reference cache is: the quickstart suite, whole, as `toolkit export` wrote it."""

from pathlib import Path

REFERENCE = "reference"
"""What `toolkit import` calls it."""
SUITE = "quickstart"
"""The suite that it holds."""


def reference_folder() -> Path:
    """Return the exported folder: beside this file once installed, in `cache/` in a checkout."""
    installed = Path(__file__).with_name(REFERENCE)
    return installed if installed.is_dir() else Path(__file__).parents[1] / "cache" / REFERENCE
