"""What tells runs apart: the settings in which they differ from the defaults, or from each other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.core.hashing import canonical_json
from toolkit.suites.config import TrainConfig

SHOWN_ELSEWHERE = ("algorithm", "alpha", "name")
"""Settings that are shown in columns of their own."""
RESOLVED = ("patience",)
"""Settings whose recorded value is not the default's, because it depends on the algorithm."""


def settings_that_differ(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each run the settings that are not the default, or that other runs of its algorithm do not share.

    Args:
        configs: The recorded settings of runs; those of an algorithm's arguments are in a table of its name.
    """
    flattened = [flat(config) for config in configs]
    defaults = flat(TrainConfig().model_dump(mode="json"))
    algorithms = [str(config.get("algorithm")) for config in configs]
    usual = {
        (algorithm, name): Counter(
            canonical_json(other[name])
            for other, theirs in zip(flattened, algorithms, strict=True)
            if theirs == algorithm and name in other
        ).most_common()
        for algorithm in set(algorithms)
        for name in {name for other in flattened for name in other}
    }

    def differs(algorithm: str, name: str, value: Any) -> bool:
        counts = usual[algorithm, name]
        is_rare = len(counts) > 1 and canonical_json(value) != counts[0][0]
        return is_rare or (
            name in defaults and name not in RESOLVED and canonical_json(value) != canonical_json(defaults[name])
        )

    return [
        {name: value for name, value in settings.items() if name not in SHOWN_ELSEWHERE and differs(algorithm, name, value)}
        for settings, algorithm in zip(flattened, algorithms, strict=True)
    ]


def as_options(settings: Mapping[str, Any]) -> str:
    """Write settings as `--set` takes them: `timesteps=5000 ppo.learning_rate=0.001`."""
    return " ".join(f"{name}={value if isinstance(value, str) else canonical_json(value)}" for name, value in settings.items())


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings by their dotted names; empty tables are left out."""
    flattened: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flattened |= {f"{name}.{field}": part for field, part in value.items()}
        else:
            flattened[name] = value
    return flattened
