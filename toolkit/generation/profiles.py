"""What calibrations have measured: rates of an engine with a model on a machine, a line of JSON each, beside the caches.

They belong to the machine and not to what a cache holds, and so are copied with no cache: other machines measure their own.
"""

import json
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

FILE = "rates.jsonl"


class EngineProfile(NamedTuple):
    """What one calibration found of one model.

    Attributes:
        model: Its key.
        name: Its name in the suite that was calibrated.
        engine: Engine and version.
        machine: Host and device, or the server's host.
        prompts: So many were read, and as many others answered.
        prompt_tokens: Mean length of a prompt of the first hop.
        completion_tokens: Mean length of an answer.
        loading: Seconds from nothing to the first token.
        read: Tokens of prompts a second, in batches of `batch_tokens`.
        written: Tokens of answers a second.
        peak: Bytes at the highest: of the GPU's memory that PyTorch has taken, else of the whole process; None where the engine
            is another process.
        batch_tokens: Tokens of a batch, prompts and answers.
        measured: When, UTC.
    """

    model: str
    name: str
    engine: str
    machine: str
    prompts: int
    prompt_tokens: float
    completion_tokens: float
    loading: float
    read: float
    written: float
    peak: int | None
    batch_tokens: int
    measured: str

    def seconds(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return how long it takes to read and write so many tokens."""
        return prompt_tokens / self.read + completion_tokens / self.written


def save_profile(rate: EngineProfile, folder: Path) -> Path:
    """Add a rate to those of a folder of caches; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(rate._asdict()) + "\n")
    return file


def load_profiles(folder: Path) -> dict[tuple[str, str], dict[UUID, EngineProfile]]:
    """Return the newest rate of every model by engine and machine."""
    found: dict[tuple[str, str], dict[UUID, EngineProfile]] = {}
    file = folder / FILE
    for line in file.read_text("utf-8").splitlines() if file.exists() else []:
        rate = EngineProfile(**json.loads(line))
        found.setdefault((rate.engine, rate.machine), {})[UUID(rate.model)] = rate
    return found
