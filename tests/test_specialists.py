"""The generated problems are right, by a solver that knows only their text, and no specialist learns from what is asked."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from benchmarks import BENCHMARKS
from benchmarks import chores as chores_module
from benchmarks import errands as errands_module
from benchmarks.problems import MARK, Problem, Skill, problems, result_of
from benchmarks.specialists import train
from benchmarks.specialists.cards import card
from benchmarks.specialists.chains import MODELS, SKILLS, SOURCES, Example, examples, lesson, words_of
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt
from toolkit.engines.transformers import TransformersEngine
from toolkit.replay.terms import WORD
from toolkit.routing.baselines import knn, knn_ngrams, linear, mlp, svm, tree
from toolkit.routing.baselines.predictor import Questions
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig
from toolkit.tasks.metrics import METRICS, Reference

ITEMS = 300


def calculated(text: str) -> int:
    """Evaluate `13 - 18 + 4`; products come first in every problem, so that Python's order is that from left to right."""
    assert re.fullmatch(r"\d+( [-+*] \d+)+", text)
    return int(eval(text))


def arithmetic(prompt: str) -> str:
    return str(calculated(prompt.removeprefix("Calculate ")))


def word_lists(prompt: str) -> str:
    listed, task = re.fullmatch(r"Words: (.*)\. Task: (.*)", prompt).groups()  # type: ignore[union-attr]
    words = listed.split(", ")
    done: dict[str, Callable[[], str]] = {
        "reverse them": lambda: ", ".join(words[::-1]),
        "sort them": lambda: ", ".join(sorted(words)),
        "count them": lambda: str(len(words)),
        "write their first letters": lambda: " ".join(word[0] for word in words),
    }
    return done[task]()


def relations(prompt: str) -> str:
    facts = {(one, kind): other for one, kind, other in re.findall(r"(\w+)'s (\w+) is (\w+)\.", prompt)}
    chain, person = re.search(r"Who is (.*) of (\w+)\?", prompt).groups()  # type: ignore[union-attr]
    for kind in reversed(re.findall(r"the (\w+)", chain)):
        person = facts[person, kind]
    return str(person)


def places(prompt: str) -> str:
    listed, task = re.fullmatch(r"Words: (.*)\. Task: (.*)", prompt).groups()  # type: ignore[union-attr]
    words = listed.split(", ")
    if task.startswith("take word "):
        return str(words[calculated(task.removeprefix("take word ")) - 1])
    return str(calculated(f"{len(words)} {task.removeprefix('count them, then ')}"))


def bosses(prompt: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)'s boss is (\w+)\.", prompt))


def coins(prompt: str) -> str:
    has = dict(re.findall(r"(\w+) (\d+)", prompt.partition(".")[0]))
    task = prompt.partition("Task: ")[2]
    if task.startswith("who has "):
        wanted = calculated(task.removeprefix("who has "))
        (owner,) = [one for one, count in has.items() if int(count) == wanted]
        return str(owner)
    asked, rest = re.fullmatch(r"coins of (\w+)'s boss (.*)", task).groups()  # type: ignore[union-attr]
    return str(calculated(f"{has[bosses(prompt)[asked]]} {rest}"))


def belongings(prompt: str) -> str:
    has = {one: words.split(", ") for one, words in re.findall(r"(\w+) has ([\w, ]+)\.", prompt)}
    task = prompt.partition("Task: ")[2]
    if task.startswith("owner of the first of "):
        first = min(task.removeprefix("owner of the first of ").split(", "))
        (owner,) = [one for one, words in has.items() if first in words]
        return str(owner)
    kind, asked = re.fullmatch(r"(sort|reverse) things of (\w+)'s boss", task).groups()  # type: ignore[union-attr]
    words = has[bosses(prompt)[asked]]
    return ", ".join(sorted(words) if kind == "sort" else words[::-1])


def asked(prompt: str) -> str:
    """What a question about words and people asks: its task, behind those of its premises that it is about."""
    words, people, task = re.fullmatch(r"(Words: [\w, ]+\. )(.*)(Task: .*)", prompt).groups()  # type: ignore[union-attr]
    return (people if "boss" in task else words) + task


def errands(prompt: str) -> str:
    question = asked(prompt)
    return places(question) if question.startswith("Words") else coins(question)


def chores(prompt: str) -> str:
    question = asked(prompt)
    return places(question) if question.startswith("Words") else belongings(question)


def done(job: str, prompt: str) -> str:
    """Do a job, or all steps of a project."""
    kind, _, rest = job.partition(" ")
    if kind == "calculate":
        return str(calculated(rest))
    if kind == "count":
        listed, operations = rest.split(", then ")
        return str(calculated(f"{len(listed.split(', '))} {operations}"))
    if kind == "take":
        place, listed = rest.removeprefix("word ").split(" of ")
        return listed.split(", ")[calculated(place) - 1]
    if kind == "find":
        facts = {(one, kind): other for one, kind, other in re.findall(r"(\w+)'s (\w+) is (\w+)\.", prompt)}
        person, *kinds = rest.split("'s ")
        for kind in kinds:
            person = facts[person, kind]
        return person
    words = rest.split(", ")
    return ", ".join(sorted(words) if kind == "sort" else words[::-1])


def delegations(prompt: str) -> str:
    listed = re.search(r"(?:Jobs|Projects): (.*?)\.", prompt)[1]  # type: ignore[index]
    jobs = dict(re.findall(r"(\w+): ([^;]+)", listed))
    employee = re.search(r"Task: (?:job|project) of (\w+)'s boss", prompt)[1]  # type: ignore[index]
    return done(jobs[bosses(prompt)[employee]], prompt)


def projects(prompt: str) -> str:
    return delegations(prompt)


def agendas(prompt: str) -> str:
    agenda = dict(re.findall(r"(\w+): ([^;]+)", re.search(r"Agenda: (.*?)\.", prompt)[1]))  # type: ignore[index]
    return done(agenda[str(calculated(prompt.partition("Task: item ")[2]))], prompt)


def chiefs(prompt: str) -> str:
    person = prompt.partition("chief of ")[2]
    while person in bosses(prompt):
        person = bosses(prompt)[person]
    return person


SOLVERS = (
    *(arithmetic, word_lists, relations, places, coins, belongings),
    *(errands, chores, delegations, agendas, projects, chiefs),
)


@pytest.mark.parametrize("solve", SOLVERS, ids=lambda solve: str(solve.__name__))
def test_a_second_solver_agrees_with_every_answer(solve: Callable[[str], str]) -> None:
    name = solve.__name__
    benchmark = BENCHMARKS[name]
    score = METRICS[benchmark.metric].score
    for item in benchmark.items(ITEMS):
        assert score(f"Answer: {solve(item.prompt)}", Reference(item.answers)).value == 1
        assert score("Answer: 1000000", Reference(item.answers)).value == 0


@pytest.mark.parametrize("name", SKILLS)
def test_a_benchmark_asks_what_no_specialist_may_learn_from(name: str) -> None:
    draw, levels = SOURCES[name]
    asked = {item.prompt for item in BENCHMARKS[name].items()}
    learnt = {problem.prompt for problem in islice(problems(draw, levels, 0, training=True), 3000)}
    assert len(asked) == 1000
    assert not asked & learnt


@pytest.mark.parametrize("model", MODELS)
def test_no_model_learns_from_a_permuted_copy_of_a_question(model: str) -> None:
    asked = {words_of(item.prompt) for name in SOURCES for item in BENCHMARKS[name].items()}
    assert not any(words_of(example.prompt) in asked for example in islice(examples(model, 0), 3000))


READ = {"delegations": 3, "agendas": 3, "projects": 3, "chiefs": 2}
"""The benchmarks in which responses must be read, with their number of orders of skills."""


@pytest.mark.parametrize(("name", "orders"), READ.items())
def test_the_question_does_not_say_which_skills_it_needs(name: str, orders: int) -> None:
    """The shipped question-only baselines, fitted on half of the questions, find the order of skills no better than chance."""
    draw, levels = SOURCES[name]
    drawn = list(islice(problems(draw, levels, 5, training=False), 1200))
    counts = Counter(problem.skills for problem in drawn)
    assert len(counts) == orders
    assert max(counts.values()) < len(drawn) * (0.4 if orders == 3 else 0.65)
    targets = np.array([[problem.skills == order for order in counts] for problem in drawn], dtype=float)
    prompts = [problem.prompt for problem in drawn]
    terms = CountVectorizer(ngram_range=(1, 2), min_df=0.05, binary=True, token_pattern=WORD).fit_transform(prompts).toarray()
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=2).fit_transform(prompts)
    embeddings = TruncatedSVD(64, random_state=0).fit_transform(vectors)
    half = len(drawn) // 2
    questions = [Questions(embeddings[part], terms[part].astype(float)) for part in (slice(half), slice(half, None))]
    chance = max(counts.values()) / len(drawn)
    for module in (knn, knn_ngrams, linear, mlp, svm, tree):
        for predicted in module.fit(questions[0], targets[:half])(questions[1]):
            share = targets[half:][np.arange(half), predicted.argmax(1)].mean()
            assert share < chance + 4 * (chance * (1 - chance) / half) ** 0.5, module.__name__


NEXT = {"calculate": "mathematics", "take": "words", "sort": "words", "reverse": "words", "find": "relations"}


@pytest.mark.parametrize("name", READ)
def test_each_response_says_which_skill_is_next_and_when_nothing_is_left(name: str) -> None:
    draw, levels = SOURCES[name]
    for problem in islice(problems(draw, levels, 0, training=False), 300):
        worked = problem.worked()
        for skill, work in zip(problem.skills[1:], worked, strict=False):
            left = result_of(work)
            if " then " in left:
                assert skill == "words"
            elif re.match(r"take word \d+ [-+*]", left):
                assert skill == "mathematics"
            else:
                assert skill == NEXT.get(left.split()[0], "relations" if "Not the chief" in work else None)
        assert result_of(worked[-1]).split()[0] not in NEXT
        assert "Not the chief" not in worked[-1]


@pytest.mark.parametrize("name", [name for name, skills in SKILLS.items() if len(skills) == 2])
def test_a_shared_benchmark_needs_both_orders_and_both_steps(name: str) -> None:
    draw, levels = SOURCES[name]
    drawn = list(islice(problems(draw, levels, 0, training=False), 400))
    orders = {problem.skills for problem in drawn}
    assert orders == {SKILLS[name], SKILLS[name][::-1]}
    for order in orders:
        assert sum(problem.skills == order for problem in drawn) > 100
    for problem in drawn:
        first, last = map(result_of, problem.worked())
        assert first != last
        for mistake in problem.mistakes:
            assert result_of(problem.worked(mistake)[-1]) != last, "the second step hangs on the first"


@pytest.mark.parametrize("module", [errands_module, chores_module])
def test_a_mixed_benchmark_needs_three_orders_in_one_wording_and_asks_nothing_that_was_taught(module: ModuleType) -> None:
    drawn = list(islice(problems(module.draw, module.LEVELS, 0, training=False), 300))
    orders = Counter(problem.skills for problem in drawn)
    assert len(orders) == 3
    assert min(orders.values()) > 60
    assert len({first for first, _ in orders}) == 3, "every skill comes first in some questions"
    assert not any(replace(problem, prompt=asked(problem.prompt)).for_training for problem in drawn)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_taught_its_own_step_or_to_repeat_the_newest_answer(model: str) -> None:
    """Lessons that are neither would teach it another's skill."""
    rng = random.Random(3)
    for name, (draw, levels) in SOURCES.items():
        stream = problems(draw, levels, 1, training=True)
        for problem in islice(stream, 300):
            example = lesson(rng, problem, MODELS[model], next(stream))
            assert example.prompt == problem.prompt
            assert len(example.responses) <= 2
            assert MARK in example.target
            assert follows(problem, MODELS[model], example), (name, example)


def follows(problem: Problem, skills: Sequence[Skill], example: Example) -> bool:
    answers = [response for response in example.responses if MARK in response]
    if answers and example.target == answers[-1]:
        return True
    steps = problem.worked()
    own = [step for step, skill in zip(steps, problem.skills, strict=True) if skill in skills]
    premises = [result_of(answer) for answer in answers if result_of(answer) in problem.mistakes]
    own += [problem.worked(premise)[1] for premise in premises if problem.skills[1] in skills]
    return example.target in own


def test_the_same_seed_gives_the_same_lessons() -> None:
    assert list(islice(examples("words", 5), 50)) == list(islice(examples("words", 5), 50))
    assert list(islice(examples("words", 5), 50)) != list(islice(examples("words", 6), 50))


def test_a_specialist_is_trained_into_an_adapter_that_the_engine_runs(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "fetch", lambda *_: llama)
    out = tmp_path / "words"
    train.train("words", steps=60, batch=2, seed=0, own_share=0.5, downloads=tmp_path, out=out)
    model = {"name": "words", "checkpoint": str(llama), "dtype": "float32", "max_tokens": 8, "base_rate": 1.0}
    answers = []
    for changes in ({}, {"adapter": str(tmp_path / "words")}):
        config = ModelConfig.model_validate(model | changes)
        engine = TransformersEngine(EngineConfig(device="cpu"), config, Workspace(tmp_path, tmp_path))
        answers.append(engine.generate([Prompt("Words: sun, red. Task: sort them", 20, 0)]))
        engine.close()
    assert answers[0] != answers[1]
    settings = json.loads((tmp_path / "words/adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == train.BASE
    recorded = json.loads((tmp_path / "words/trainer_state.json").read_text())
    assert (recorded["steps"], recorded["batch"], recorded["own_share"]) == (60, 2, 0.5)
    assert recorded["tokens"] > 100
    assert recorded["before"] is None
    weights = (out / "adapter_model.safetensors").read_bytes()
    train.train("words", steps=2, batch=2, seed=1, own_share=0.5, start=out, downloads=tmp_path, out=tmp_path / "further")
    assert json.loads((tmp_path / "further/trainer_state.json").read_text())["before"] == recorded
    assert (tmp_path / "further/adapter_model.safetensors").read_bytes() != weights


def test_a_card_says_what_was_recorded_and_measured() -> None:
    facts: dict[str, Any] = {
        "steps": 40,
        "trained": 40,
        "batch": 8,
        "seed": 3,
        "own_share": 0.3,
        "tokens": 12345,
        "seconds": 90,
    }
    facts |= {"device": "a calculator", "rank": 16, "layers": None}
    measured = [
        {"benchmark": name, "model": model, "quality": 0.25 + (model == "words") / 2, "questions": 50}
        for name in SKILLS
        for model in MODELS
    ]
    loss = {"loss": [{"step": 10, "loss": 0.5}, {"step": 20, "loss": 0.25}]}
    text = card("words", "quickstart", facts | loss, measured)
    assert "just specialists words --steps 40 --batch 8 --seed 3 --own-share 0.3" in text
    assert "320 examples, 12,345 tokens" in text
    assert "| `places` | 0.25 | 0.75 | 0.25 | 0.25 |" in text
    assert "Its own: `word_lists`. Shared with others: `places`, `belongings`, `delegations`" in text
    assert "| loss | 0.500 | 0.250 |" in text
    assert "on 2 layers of" in card("quick", "quickstart", facts | loss | {"layers": [0, 29]}, measured)
    stages = {"before": facts | {"trained": 25, "before": facts | {"trained": 30}}, "learning_rate": 4e-4}
    further = card("quick", "quickstart", facts | loss | stages, measured)
    assert "--own-share 0.3 --learning-rate 0.0004 --start benchmarks/specialists/quick`" in further
    assert "; before that, 25 steps of 8 examples; before that, 30 steps of 8 examples of every skill" in further
