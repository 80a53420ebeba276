"""Shows routes: each hop with the policy's probabilities, its tokens and its cost, as text for people, or as rows."""

from collections.abc import Mapping
from typing import Any

from toolkit.replay.table import STOP
from toolkit.report.tables import count
from toolkit.routing.route import Hop, Route

INDENT = "   "
"""Before the lines of a response."""
MAX_OTHER_ACTIONS = 5
"""Actions that are shown beside the one that was taken, at most."""


def render_hop(number: int, hop: Hop) -> str:
    """Show a hop, numbered from 1: model, probabilities, cost, tokens, and the response below."""
    response = hop.response
    tokens = f", {response.prompt_tokens}+{response.completion_tokens} tokens" if response.prompt_tokens is not None else ""
    cut = ", cut off at max_tokens" if response.finish_reason == "length" else ""
    cached = ", cached" if response.cached else ""
    head = f"{number}. {response.model}  [C {response.cost:.2f}{tokens}{cut}{cached}]  "
    return f"{head}{_probabilities(response.model, hop.decision.probabilities)}\n{_indented(response.text)}"


def render_end(route: Route) -> str:
    """Show how a route ends: whether it stopped, its path, and what it cost."""
    lines = []
    if route.stop:
        lines.append(f"{len(route.hops) + 1}. {STOP}  {_probabilities(STOP, route.stop.probabilities)}")
    if not route.hops:
        return "\n".join([*lines, "The router abstained: it stopped before any model responded."])
    new = sum(not hop.response.cached for hop in route.hops)
    source = (
        f"{count(new, 'response')} of {len(route.hops)} new, and cached now" if new else "all cached: nothing was generated"
    )
    tokens = f", {route.prompt_tokens}+{route.completion_tokens} tokens" if route.prompt_tokens else ""
    return "\n".join([*lines, f"Path: {' > '.join(route.path)}  [C {route.cost:.2f}{tokens}; {source}]"])


def render(route: Route) -> str:
    """Show a whole route."""
    hops = [render_hop(number, hop) for number, hop in enumerate(route.hops, start=1)]
    return "\n".join([*hops, render_end(route)])


def route_row(question: str, route: Route | Exception) -> dict[str, Any]:
    """Return a route, or why there is none, as a row for programs; `hops` is nested."""
    if isinstance(route, Exception):
        empty = {"response": None, "path": None, "cost": None, "prompt_tokens": None, "completion_tokens": None}
        return {"question": question} | empty | {"cached": None, "stop": None, "hops": None, "error": str(route)}
    values = route.to_json()
    return {
        "question": question,
        "response": route.response,
        "path": values["path"],
        "cost": values["cost"],
        "prompt_tokens": route.prompt_tokens,
        "completion_tokens": route.completion_tokens,
        "cached": values["cached"],
        "stop": values["stop"],
        "hops": values["hops"],
        "error": None,
    }


def _probabilities(action: str, probabilities: Mapping[str, float]) -> str:
    """Show the probability of the action taken, and of the most probable others."""
    others = sorted((name for name in probabilities if name != action), key=lambda name: -probabilities[name])
    shown = ", ".join(f"{name} {probabilities[name]:.2f}" for name in others[:MAX_OTHER_ACTIONS])
    more = ", ..." if len(others) > MAX_OTHER_ACTIONS else ""
    return f"p {probabilities[action]:.2f} ({shown}{more})"


def _indented(text: str) -> str:
    return "\n".join(f"{INDENT}{line}".rstrip() for line in text.splitlines() or ["(empty)"])
