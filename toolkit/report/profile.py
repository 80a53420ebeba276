"""Shows the profiles of an engine, as text for people."""

from collections.abc import Sequence
from typing import Any

from toolkit.generation.profile import EngineProfile
from toolkit.report.tables import aligned, format_bytes


def rows(profiles: Sequence[EngineProfile]) -> list[dict[str, Any]]:
    """Return the profiles as records, for programs; tokens per second, bytes and seconds."""
    return [
        {
            "model": profile.name,
            "engine": profile.engine,
            "machine": profile.machine,
            "batch_tokens": profile.batch_tokens,
            "loading_seconds": profile.loading,
            "tokens_read_per_second": profile.read,
            "tokens_written_per_second": profile.written,
            "peak_bytes": profile.peak or None,
        }
        for profile in profiles
    ]


def render(profiles: Sequence[EngineProfile]) -> str:
    """Lay out the profiles of one engine with each model of a pool."""
    rows = [
        [
            profile.name,
            f"{profile.loading:.1f}",
            f"{profile.read:.1f}",
            f"{profile.written:.1f}",
            format_bytes(profile.peak) if profile.peak else "-",
        ]
        for profile in profiles
    ]
    first = profiles[0]
    table = aligned(["model", "loading s", "read tokens/s", "written tokens/s", "peak memory"], rows)
    if any(not profile.peak for profile in profiles):
        table += "\n-: the engine runs outside this process, so its memory is not measured."
    return f"{first.engine} on {first.machine}, batches of {first.batch_tokens} tokens:\n\n{table}"
