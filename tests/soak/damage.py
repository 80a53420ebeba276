"""Damage to documents and bytes, drawn at random, and the formats that damaged documents are written in."""

import contextlib
import copy
import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

NUMBERS = [float("nan"), float("inf"), float("-inf"), -1, -0.5, 0, -0.0, 1, 2, 1e308, 10**30, 2**63, 1e-320, 7.5]
TEXTS = [
    *(
        "",
        " ",
        "\x00",
        "half \ud83d",
        "\x1b[31mred\x1b[0m",
        "\ufeff",
        "\u202eabc",
        "line\nline\r\n",
        "\t",
        "a" * 5_000,
        "NaN",
        "1e400",
    ),
    *(
        "../../etc/passwd",
        "/dev/null",
        "/nowhere/x",
        "~",
        "' OR 1=1 --",
        '"; DROP TABLE nodes; --',
        "{{ x }}",
        "{q}",
        "{",
        "%s",
    ),
    *("千问-7B", "🙂", "e\u0301", "٣", "true", "null", "-1", "007", "--help", "one", "addition", "$HOME", "\\", "C:\\x"),
]
OTHERS: list[Any] = [None, True, False, [], {}, [[]], {"a": {"b": []}}, [None], ["x", 1], json.loads("[" * 60 + "]" * 60)]
ODD_VALUES = [*NUMBERS, *TEXTS, *OTHERS]


def odd_value(rng: Random, previous: Any = None) -> Any:
    """Draw a value that nobody expects: in place of text or a number, more often than not another one."""
    if rng.random() < 0.6:
        if isinstance(previous, str):
            return rng.choice(TEXTS)
        if isinstance(previous, int | float):
            return rng.choice(NUMBERS)
    return copy.deepcopy(rng.choice(ODD_VALUES))


def damage_document(document: Any, rng: Random) -> str:
    """Damage one to three places of nested lists and dictionaries in place; return what was done."""
    return "; ".join(_damage_once(document, rng) for _ in range(rng.choice([1, 1, 1, 2, 3])))


def _damage_once(document: Any, rng: Random) -> str:
    container = document
    while True:
        places = list(container) if isinstance(container, dict) else range(len(container))
        inner = [place for place in places if isinstance(container[place], dict | list) and container[place]]
        if not inner or rng.random() < 0.15:
            break
        container = container[rng.choice(inner)]
    if not len(container):
        return "nothing"
    place = rng.choice(list(container) if isinstance(container, dict) else range(len(container)))
    match rng.choice([*["replace"] * 6, "delete", "add", "rename", "repeat"]):
        case "replace":
            container[place] = odd_value(rng, container[place])
            return f"{place!r} = {container[place]!r:.80}"
        case "delete":
            del container[place]
            return f"{place!r} deleted"
        case "rename" if isinstance(container, dict):
            container[str(rng.choice(TEXTS))] = container.pop(place)
            return f"{place!r} renamed"
        case "repeat" if isinstance(container, list):
            container.append(copy.deepcopy(container[place]))
            return f"item {place} repeated"
        case _:
            if isinstance(container, dict):
                container[str(rng.choice(TEXTS))] = odd_value(rng)
            else:
                container.append(odd_value(rng))
            return "one more"


def damage_bytes(data: bytes, rng: Random) -> tuple[bytes, str]:
    """Damage the bytes of a file; return them and what was done."""
    at = rng.randrange(len(data) + 1)
    match rng.choice(["cut", "flip", "insert", "empty", "bom", "utf-16", "gzip", "crlf", "twice", "latin-1"]):
        case "cut":
            return data[:at], f"cut at {at}"
        case "flip":
            flipped = bytearray(data)
            for _ in range(rng.choice([1, 1, 20])):
                flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(flipped), "bits flipped"
        case "insert":
            return data[:at] + rng.randbytes(rng.choice([1, 3, 200])) + data[at:], f"bytes inserted at {at}"
        case "empty":
            return b"", "emptied"
        case "bom":
            return b"\xef\xbb\xbf" + data, "byte order mark"
        case "utf-16":
            return data.decode("utf-8", "replace").encode("utf-16"), "UTF-16"
        case "gzip":
            return gzip.compress(data), "compressed"
        case "crlf":
            return data.replace(b"\n", b"\r\n"), "CRLF"
        case "twice":
            return data + data, "twice"
        case _:
            return data[:at] + "é".encode("latin-1") + data[at:], "Latin-1"


def write_toml(path: Path, document: dict[str, Any]) -> None:
    """Write a document as TOML, tables in one line each; what TOML cannot express becomes a syntax error."""
    lines = [f"{_toml_key(key)} = {_toml(value)}\n" for key, value in document.items()]
    path.write_bytes("".join(lines).encode("utf-8", "surrogatepass"))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # nan and inf are TOML
    return json.dumps(value, ensure_ascii=False)


def _toml_key(key: object) -> str:
    return json.dumps(str(key), ensure_ascii=False)


def write_jsonl(path: Path, rows: list[Any]) -> None:
    """Write values as lines of JSON; NaN, infinities and lone surrogates are written as Python writes them."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_table(path: Path, rows: list[Any], format: str) -> Path:
    """Write rows in a format, or as JSONL if the format cannot express them; return the file's path."""
    with contextlib.suppress(Exception):  # the rows may not be a table at all
        if format == "csv":
            pl.DataFrame(rows, strict=False, infer_schema_length=None).write_csv(path.with_suffix(".csv"))
            return path.with_suffix(".csv")
        if format == "parquet":
            pl.DataFrame(rows, strict=False, infer_schema_length=None).write_parquet(path.with_suffix(".parquet"))
            return path.with_suffix(".parquet")
    if format == "json":
        path.with_suffix(".json").write_text(json.dumps(rows))
        return path.with_suffix(".json")
    write_jsonl(path.with_suffix(".jsonl"), rows)
    return path.with_suffix(".jsonl")
