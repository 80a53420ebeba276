"""Runs the pages of the documentation and renews the outputs that they show.

    python -m tests.docs.outputs [--long] [PAGE ...]

Outputs that still hold stay as they are, and elisions stay where they still make sense.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.docs.page import PAGES, ROOT, blocks, with_outputs
from tests.docs.printed import ELISION, elided, matches
from tests.docs.running import Snapshots, lines_of, results


def renew(page: Path, folder: Path, snapshots: Snapshots, long: bool) -> int:
    """Renew the outputs of a page, say which elisions to look at, and return how many outputs have changed."""
    outputs = {}
    for block, printed, after_training in results(page, folder, snapshots, long=long):
        if block.output is None or matches(shown := lines_of(block.output.body), printed, after_training):
            continue
        outputs[block.output.line] = renewed = elided(shown, printed)
        if not matches(renewed, printed, False) or body_elisions(shown) != body_elisions(renewed):
            print(
                f"{page.relative_to(ROOT)}:{block.output.line}: other lines than before; look at its elisions", file=sys.stderr
            )
    page.write_text(with_outputs(page.read_text("utf-8"), outputs), "utf-8")
    return len(outputs)


def body_elisions(lines: list[str]) -> int:
    """Return how many elisions an output has."""
    return sum(line.count(ELISION) for line in lines)


def main() -> None:
    """Renew the pages that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE")
    parser.add_argument("--long", action="store_true", help="also run `bash` blocks whose output is shown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        snapshots = Snapshots(Path(scratch) / "snapshots")
        for number, page in enumerate([page.resolve() for page in options.pages] or PAGES):
            if any(block.is_run or (options.long and block.output) for block in blocks(page.read_text("utf-8"))):
                changed = renew(page, Path(scratch) / str(number), snapshots, options.long)
                print(f"{page.relative_to(ROOT)}: {changed} outputs changed", flush=True)


if __name__ == "__main__":
    main()
