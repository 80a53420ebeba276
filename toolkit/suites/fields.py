"""The types of the fields of a suite file: names, paths, numbers with bounds, and values for a library's own arguments."""

import math
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Name of a suite, which is also that of a file."""
MAX_COUNT = 2**31 - 1
"""Largest limit, length or number of steps; larger ones overflow somewhere on the way to a model."""
MAX_SEED = 2**63 - 1
"""Largest seed that generators take."""


def check_suite_name(name: str) -> str:
    """Return the name of a suite.

    Raises:
        ValueError: It cannot be part of a file's name.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            "a suite's name consists of at most 64 letters, digits, dots, dashes and underscores, and begins with a letter or "
            "digit, because it names files"
        )
    return name


def _check_path(path: str) -> str:
    if not path.strip():
        raise ValueError("a path is not empty; leave the field out instead")
    if "\0" in path or "\n" in path:
        raise ValueError("a path has no NUL and no newline")
    if "://" in path:
        raise ValueError("a file or folder on this machine is expected, not an address; download it first")
    return path


def _check_scalar(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("finite_number", "should be a finite number")
    if not isinstance(value, str | int | float):
        raise PydanticCustomError("scalar_type", "should be a number, a text, true or false")
    return value


def _check_argument(value: object) -> object:
    is_list = isinstance(value, list | tuple) and all(isinstance(number, int) for number in value)
    if is_list or (isinstance(value, float) and math.isfinite(value)) or isinstance(value, str | int):
        return value
    raise PydanticCustomError("argument_type", "should be a finite number, a text, true or false, or a list of whole numbers")


SuiteName = Annotated[str, AfterValidator(check_suite_name)]
LocalPath = Annotated[str, AfterValidator(_check_path)]
"""Path of a file or folder, relative to the suite file's folder."""
Share = Annotated[float, Field(ge=0, le=1)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Price of a token, in any unit."""
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Scalar = Annotated[str | int | float | bool, BeforeValidator(_check_scalar)]
"""A value of a table whose fields a library defines; checked as a whole, so that a wrong one is reported once."""
Argument = Annotated[int | float | bool | str | tuple[int, ...], BeforeValidator(_check_argument)]
"""An argument of an algorithm: a scalar, or a list of integers such as the sizes of layers."""
