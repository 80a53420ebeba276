from __future__ import annotations

import sys
from pathlib import Path

import pytest

from toolkit.core.registry import Registry


@pytest.fixture
def registry() -> Registry[object]:
    return Registry("thing", "toolkit.no_such_group")


def test_a_declared_implementation_is_imported_when_it_is_first_used(
    registry: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "declared_thing.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.declare("thing", "declared_thing:Thing")
    assert "thing" in registry
    assert list(registry) == ["thing"]
    assert "declared_thing" not in sys.modules
    assert registry["thing"] is registry["thing"]
    assert registry.name_of(registry["thing"]) == "thing"
    with pytest.raises(KeyError):
        registry["other"]


def test_a_name_is_registered_once(registry: Registry[object]) -> None:
    registry.register("one")(1)
    registry.register("one")(1)
    with pytest.raises(ValueError, match="the name 'one' is taken by another thing"):
        registry.register("one")(2)
    registry.register("one", replace=True)(2)
    assert dict(registry) == {"one": 2}


def test_the_name_of_a_class_is_known_before_the_registry_has_imported_it(registry: Registry[object]) -> None:
    registry.declare("path", "pathlib:Path")
    assert registry.name_of(Path) == "path"
    with pytest.raises(KeyError, match="no registered thing"):
        registry.name_of(int)
