"""The loop of live routing, with a router and a pool of the user's own: neither a cache nor an engine is needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from tests.scripted import encode, suite_config
from toolkit.core.errors import NoResponseError, ToolkitError
from toolkit.live.chat import Completion, parse
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.report.route import render, route_row
from toolkit.routing.route import NextHop, Route, run
from toolkit.routing.texts import Mask, Response
from toolkit.suites.config import SuiteConfig

CONFIG = suite_config(horizon=3)
MODELS = [model.name for model in CONFIG.models]


class ByLength:
    """A router that takes the model at position `len(question) % 3` at every hop, where 2 is to stop."""

    def probabilities(self, table: TransitionTable, rows: Ints, alpha: float | None = None) -> Floats:
        actions = np.array([len(question) % 3 for question in table.questions])[rows]
        probabilities = np.full((len(rows), table.n_decision_nodes, 3), 0.1)
        probabilities[np.arange(len(rows)), :, actions] = 0.8
        return probabilities


class Echo:
    """A pool whose models repeat the newest text; `sums` costs 1 and `words` 2."""

    def __init__(self) -> None:
        self.config: SuiteConfig = CONFIG
        self.batches: list[int] = []

    def available(self, question: str) -> Mask | None:
        return None

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return encode(texts)

    def respond(self, hops: Sequence[NextHop]) -> Sequence[Response | ToolkitError]:
        self.batches.append(len(hops))
        return [self._respond(hop) for hop in hops]

    def _respond(self, hop: NextHop) -> Response | ToolkitError:
        if "!" in hop.context.question:
            return NoResponseError("too loud")
        newest = hop.context.responses[-1].text if hop.context.responses else hop.context.question
        return Response(hop.model, f"{newest}.", 1.0 + MODELS.index(hop.model), 7, 5, "stop")


def test_questions_are_routed_side_by_side_and_reported_in_order() -> None:
    pool, reported = Echo(), list[tuple[int, str]]()
    routes = run(ByLength(), ["abc", "abcd", "!??", "ab"], pool, None, lambda n, hop: reported.append((n, hop.response.text)))
    first, second, failed, stopped = routes
    assert isinstance(first, Route)
    assert isinstance(second, Route)
    assert isinstance(stopped, Route)
    assert (first.path, first.response, first.cost) == (("sums",) * 3, "abc...", 3.0)
    assert (second.path, second.response, second.cost) == (("words",) * 3, "abcd...", 6.0)
    assert (first.prompt_tokens, first.completion_tokens) == (21, 15)
    assert isinstance(failed, NoResponseError)
    assert pool.batches == [3, 2, 2]
    assert reported == [(0, "abc."), (1, "abcd."), (0, "abc.."), (1, "abcd.."), (0, "abc..."), (1, "abcd...")]


def test_a_router_that_stops_at_once_abstains() -> None:
    [route] = run(ByLength(), ["ab"], Echo())
    assert isinstance(route, Route)
    assert (route.path, route.response, route.cost, route.hops) == ((), "", 0, ())
    assert route.stop
    assert route.stop.probabilities == pytest.approx({"sums": 0.1, "words": 0.1, "stop": 0.8})
    assert "abstained" in render(route)
    assert route_row("ab", route)["path"] == []
    request = parse({"model": "router", "messages": [{"role": "user", "content": "ab"}]}, ("router",))
    completion = Completion("router", request).whole(route)
    assert completion["choices"][0]["message"]["content"] == ""
    assert completion["routing"]["path"] == []
    chunks = list(Completion("router", request).final_chunks(route))
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "", None]


def test_a_hop_is_shown_with_its_probabilities_tokens_and_cost() -> None:
    [route] = run(ByLength(), ["abc"], Echo())
    assert isinstance(route, Route)
    lines = render(route).splitlines()
    assert lines[0] == "1. sums  [C 1.00, 7+5 tokens]  p 0.80 (words 0.10, stop 0.10)"
    assert lines[1] == "   abc."
    assert lines[-1] == "Path: sums > sums > sums  [C 3.00, 21+15 tokens; 3 responses of 3 new, and cached now]"
