"""The file of a router: weights and a card, as data. Reading it executes nothing and imports nothing that it names.

It is a safetensors file; its metadata hold the card as JSON. Zips of stable-baselines3 hold pickles.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import torch
from pydantic import ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from toolkit.core.commands import command
from toolkit.core.errors import PolicyError
from toolkit.core.text import is_well_formed, printable
from toolkit.routing.architecture import Architecture
from toolkit.suites.fields import SuiteName
from toolkit.suites.section import Section

ROUTER_FILE = "router.safetensors"
"""Name of a router's file in the folder of its run."""
ZIP_FILE = "sb3.zip"
"""Name of the zip of stable-baselines3 beside it, if one was asked for."""
LOG_FOLDER = "tensorboard"
"""Name of the folder of the run's TensorBoard log beside it."""
OLD_FILE = "policy.zip"
"""Name that version 0.1 gave to the file of a router, which has to be trained again."""
CARD = "toolkit.router"
"""Key of the card in the metadata of a router's file."""
CARD_MEMBER = "toolkit.json"
"""Name of the card within a zip."""
MAX_CARD_BYTES = 2**24

RunName = Annotated[str, Field(pattern=r"^\w[\w.+-]*$", max_length=255)]


class TrainedWith(Section):
    """The settings of a run, as far as a router needs them; the others are for people."""

    model_config = ConfigDict(extra="allow")

    alphas: tuple[Annotated[float, Field(ge=0)], ...] = ()
    holdout: str | None = None
    blind: bool = False


class Card(Section):
    """What a card must say; it may say more."""

    model_config = ConfigDict(extra="allow")

    run: RunName
    algorithm: str
    alpha: float = Field(ge=0)
    suite: SuiteName
    suite_key: UUID
    horizon: int = Field(ge=1)
    models: tuple[str, ...] = Field(min_length=1)
    settings: TrainedWith
    terms: tuple[str, ...] = Field((), max_length=2**16)
    response_terms: tuple[str, ...] = Field((), max_length=2**16)
    fixed_path: tuple[str, ...] | None = None
    masked: bool = False


class StoredCard(Card):
    """The card of a router that is stored as data: it also says what its policy is built from."""

    architecture: Architecture


class UntrustedError(PolicyError):
    """A router's file can only be opened by running code, and nobody has said that it may."""

    def __init__(self, path: Path, reason: str, cache: Path | None = None) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"{printable(str(path))} {reason}. If you trust whoever wrote it, open it with load_router(path, trust=True) in "
            f"Python, or: {printable(command('evaluate', path, '--trust', cache=cache))}"
        )


def unusable(path: Path, reason: object) -> PolicyError:
    """Return the error of a file that is not a router, or not a whole one."""
    return PolicyError(
        f"{printable(str(path))} is not a router that toolkit train has written: {printable(str(reason))}. Copy it again from "
        "where it comes from, or train a router: toolkit train SUITE"
    )


def check_age(path: Path, card: Mapping[str, Any]) -> None:
    """Check that a router observes what today's do: the path, and terms or the lack of them.

    Raises:
        PolicyError: It was trained before, by version 0.1.
    """
    if "terms" not in card:
        raise PolicyError(
            f"{printable(str(path))} is of version 0.1, whose routers did not observe the path that they had taken. Train it "
            f"again, which takes seconds: {command('train', str(card['suite']))}"
        )


def check_file(path: Path) -> None:
    """Check that there is a regular file.

    Raises:
        PolicyError: There is none.
    """
    if path.is_dir():
        raise PolicyError(
            f"The folder {printable(str(path))} holds no {ROUTER_FILE}. Give the folder of a run, e.g. runs/RUN, or its file."
        )
    if not path.exists():
        raise PolicyError(f"There is no policy file {printable(str(path))}. Train a router with: toolkit train SUITE")
    if not path.is_file():
        raise unusable(path, "it is a device, pipe or socket, and not a file")


def is_zip(path: Path) -> bool:
    """Return whether a file begins like a zip.

    Raises:
        PolicyError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError as error:
        raise unusable(path, error.strerror) from None


def write_router(path: Path, weights: Mapping[str, torch.Tensor], card: Mapping[str, Any]) -> None:
    """Write the file of a router; tensors that share memory are written once each."""
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    save_file(tensors, path, metadata={CARD: json.dumps(card, default=str)})


def read_router(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], StoredCard]:
    """Read the file of a router.

    Returns:
        The weights, the card as written, and the card as checked.

    Raises:
        PolicyError: It is damaged, or not the file of a router.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(CARD)
            if text is None:
                raise unusable(path, "it is a safetensors file of something else, without a card")
            card, checked = _parsed(path, text, StoredCard)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            bad = not_finite(weights)
    except (
        SafetensorError,
        OSError,
        MemoryError,
        ValueError,
        TypeError,
        RuntimeError,
    ) as error:  # also unknown kinds of numbers
        raise unusable(path, error) from None
    if bad:
        raise unusable(path, f"its tensor {bad!r} holds values that are not finite numbers")
    return weights, card, checked


def read_zip_card(path: Path) -> dict[str, Any]:
    """Read the card of a zip, and nothing else of it.

    Raises:
        PolicyError: It has no card, or a damaged one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if CARD_MEMBER not in members:
                raise _without_card(path, members)
            if archive.getinfo(CARD_MEMBER).file_size > MAX_CARD_BYTES:
                raise unusable(path, "its card is too large")
            text = archive.read(CARD_MEMBER).decode("utf-8")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, MemoryError) as error:
        raise unusable(path, error) from None
    card, _ = _parsed(path, text, Card)
    return card


def _without_card(path: Path, members: list[str]) -> PolicyError:
    if {"data", "policy.pth"} <= set(members):
        return PolicyError(
            f"{printable(str(path))} is a model that stable-baselines3's own `save` has written. It does not say which suite, "
            "pool and texts it was trained on, so it cannot route. Train it with the toolkit, which accepts any class of "
            "stable-baselines3: toolkit train SUITE --algorithm NAME"
        )
    return unusable(path, "it is a zip of something else, without a card")


def _parsed(path: Path, text: str, schema: type[Card]) -> tuple[dict[str, Any], Any]:
    """Parse and check a card.

    Raises:
        PolicyError: It is not JSON, or says what no card says.
    """
    try:
        card = json.loads(text)
        if not is_well_formed(json.dumps(card, ensure_ascii=False)):
            raise unusable(path, "its card holds text that is not Unicode")
        return card, schema.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise unusable(path, f"its card says at {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise unusable(path, f"its card is not JSON ({error})") from None


def not_finite(weights: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of a tensor with values that are infinite or not numbers, or None."""
    return next((name for name, tensor in weights.items() if not torch.isfinite(tensor).all()), None)
