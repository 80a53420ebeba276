"""MBPP: basic Python problems with three tests each (Austin et al. 2021), and its hand-verified subset.

Example (task 11):
    Write a python function to remove first and last occurrence of a given character from the string.
    Your code should pass these tests:
    assert remove_Occ("hello","l") == "heo"
    assert remove_Occ("abcda","a") == "bcd"
    assert remove_Occ("PHP","P") == "H"
    Answer with the whole function in a code block.
    -> a function that passes them

Scored by running the tests (pass@1). Licence CC-BY-4.0. The questions are tasks 11 to 510, the official test split;
tasks 1 to 10 are the few-shot examples. `mbpp_sanitized` also reads the HumanEval-like layout of CodeT.
"""

import ast
import re
import warnings
from functools import partial

from toolkit.tasks import Benchmark, Checks, Dataset, DataSplit, Item, Record

_DOCSTRING = re.compile(r" *'''.*?'''\n", re.DOTALL)  # CodeT indents it differently from the solution
SPLITS = {"prompt": range(1, 11), "test": range(11, 511)}


def _item(row: Record, split: str) -> Item | None:
    number = int(str(row["task_id"]).rpartition("/")[2])
    if number not in SPLITS[split]:
        return None
    if "entry_point" in row:
        text = re.findall(r"'''(.*?)'''", row["prompt"], re.DOTALL)[-1]
        code, imports = (
            _DOCSTRING.sub("", row["prompt"]) + row["canonical_solution"],
            "import math\n",
        )  # whose tests lost their imports
        asserts = [line.strip() for line in row["test"].splitlines()[1:] if line.strip()]
    else:
        text, code, asserts = row.get("text") or row["prompt"], row["code"], list(row["test_list"])
        imports = "\n".join(row.get("test_imports", ()))
    code = code.replace("\r\n", "\n")
    setup_code = (row.get("test_setup_code") or "").replace("\r\n", "\n")
    checks = "\n".join([setup_code, *asserts])
    tests = Checks(checks, _defined(code, checks), imports)
    shown = "\n".join(asserts)
    prompt = f"{text.strip()}\nYour code should pass these tests:\n{shown}\nAnswer with the whole function in a code block."
    return Item(str(number), prompt, (code,), tests=tests, shown=f"```python\n{code.strip()}\n```")


def _defined(code: str, checks: str) -> tuple[str, ...]:
    """Return the functions and classes of the solution that the tests use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes such as "\\w" in regular expressions
        solution, tests = ast.parse(code), ast.parse(checks)
    used = {node.id for node in ast.walk(tests) if isinstance(node, ast.Name)}
    kinds = (ast.FunctionDef, ast.ClassDef)
    return tuple(node.name for node in solution.body if isinstance(node, kinds) and node.name in used)


_mbpp = partial(
    Benchmark,
    version="1",
    field="code",
    metric="pass_at_1",
    licence="CC-BY-4.0",
    citation="Austin et al., Program synthesis with large language models, arXiv 2108.07732",
    item=_item,
)
_hub = partial(Dataset, "google-research-datasets/mbpp", "4bb6404fdc6cacfda99d4ac4205087b89d32030c")
_FULL = ("mbpp/mbpp.jsonl",)
_SANITIZED = ("mbpp/sanitized-mbpp.json", "mbpp/mbpp_sanitized_for_code_generation.jsonl")
MBPP = _mbpp(
    name="mbpp", size=500, dataset=_hub(config="full", test=DataSplit("test", _FULL), examples=DataSplit("prompt", _FULL))
)
MBPP_SANITIZED = _mbpp(
    name="mbpp_sanitized",
    size=257,
    dataset=_hub(config="sanitized", test=DataSplit("test", _SANITIZED), examples=DataSplit("prompt", _SANITIZED)),
)
