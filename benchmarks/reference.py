"""Where the reference cache is: the whole quickstart suite, as `toolkit export` wrote it."""

from pathlib import Path

REFERENCE = "reference"
"""The name by which `toolkit import` knows it."""
SUITE = "quickstart"
"""The suite that it holds."""


def reference_folder() -> Path:
    """Return the exported folder: beside this file once installed, in `cache/` in a checkout."""
    installed = Path(__file__).with_name(REFERENCE)
    return installed if installed.is_dir() else Path(__file__).parents[1] / "cache" / REFERENCE
