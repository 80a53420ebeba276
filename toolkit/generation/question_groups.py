"""Which questions a run generates together: all of them, or groups that its budget can complete."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from operator import itemgetter
from uuid import UUID

from toolkit.generation.state import GenerationState
from toolkit.store import Cache
from toolkit.suites.keys import child_key
from toolkit.suites.suite import Question, Suite

BUDGET_MARGIN = 0.9
"""Share of the rest of the budget that a group is expected to take, at the last group's rate."""


def complete_questions(suite: Suite, cache: Cache) -> set[UUID]:
    """Return the questions whose trees are cached down to the last hop."""
    return _complete(suite, cache.generations.done_nodes(suite))


def alternate_benchmarks(questions: Sequence[Question]) -> list[Question]:
    """Order questions so that benchmarks take turns: the first question of each, then the second of each, and so on."""
    turns: Counter[str] = Counter()
    turn_of_question = []
    for question in questions:
        turn_of_question.append((turns[question.benchmark], question))
        turns[question.benchmark] += 1
    return [question for _, question in sorted(turn_of_question, key=itemgetter(0))]


def question_groups(state: GenerationState) -> Iterator[Collection[UUID]]:
    """Yield the questions that pass through all hops before the next ones: one group without a budget.

    With a budget, benchmarks take turns. The first group is one question of each benchmark. A further group is at most twice
    as large as the one before, since weights are loaded anew for each group, and no larger than the rest of the budget allows
    at the last group's rate.
    """
    questions = state.suite.questions
    if state.spending.budget is None:
        yield state.questions.keys()
        return
    complete = _complete(state.suite, state.tried_nodes())
    waiting = [
        question.key
        for question in alternate_benchmarks(questions)
        if state.shard.contains(question.key) and question.key not in complete
    ]
    size = len({question.benchmark for question in questions})
    while waiting and size > 0 and not state.should_stop():
        left_before, group = state.spending.left, waiting[:size]
        waiting = waiting[size:]
        yield set(group)
        per_question = (left_before - state.spending.left) / len(group)
        affordable = BUDGET_MARGIN * state.spending.left - state.spending.reserve
        size = min(2 * len(group), int(affordable / per_question)) if per_question > 0 else 2 * len(group)
    state.report.exhausted = (bool(waiting) and not state.progress.stopped()) or state.report.exhausted


def _complete(suite: Suite, done: Collection[UUID]) -> set[UUID]:
    """Return the questions all of whose trees have every node in `done`."""
    models = suite.models
    numbers = [number for number, _ in suite.tree.paths() if number]

    def is_complete(root: UUID) -> bool:
        nodes = {0: root}
        for number in numbers:
            parent, position = divmod(number - 1, len(models))
            nodes[number] = child_key(nodes[parent], models[position].key)
            if nodes[number] not in done:
                return False
        return True

    incomplete = {question.key for question, _, root in suite.trees() if not is_complete(root)}
    return {question.key for question in suite.questions} - incomplete
