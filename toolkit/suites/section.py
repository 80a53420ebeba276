"""What a table of the suite file is: which fields it accepts, and how a mistake in it is reported."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from toolkit.core.errors import did_you_mean
from toolkit.core.text import printable

RECORDED = {"recorded": True}
"""Validation context of a suite that a cache recorded: it may use extensions of packages that are not installed here."""


MAX_NAME = 256
"""Characters of the name of a model or a benchmark."""


def check_name(name: str) -> str:
    """Return the name of a model or a benchmark; any printable one is allowed.

    Raises:
        ValueError: It is not; says why.
    """
    if not name or len(name) > MAX_NAME:
        raise ValueError(f"a name has 1 to {MAX_NAME} characters, and this one has {len(name)}")
    shown = printable(name).replace("\n", "\\n").replace("\t", "\\t")
    if shown != name:
        raise ValueError(f"the name '{shown}' has a character that cannot be printed")
    if name != name.strip():
        raise ValueError(f"the name {name!r} begins or ends with a space")
    if " > " in name:
        raise ValueError(f"the name {name!r} contains ' > ', which separates the models of a path")
    return name


FreeName = Annotated[str, AfterValidator(check_name)]


class Section(BaseModel):
    """A table of the suite file: unknown fields are refused, and values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ExtensibleSection(Section):
    """A table that may contain further tables, which belong to registered extensions."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def extensions(cls) -> Mapping[str, Any]:
        """Return the registry that holds the names of the further tables."""
        raise NotImplementedError

    @property
    def tables(self) -> dict[str, Any]:
        """The further tables, as written."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _refuse_unknown_fields(self, info: ValidationInfo) -> Self:
        unknown = [
            InitErrorDetails(type="extra_forbidden", loc=(name,), input=value)
            for name, value in self.tables.items()
            if not isinstance(value, dict) or not (info.context == RECORDED or name in self.extensions())
        ]
        if unknown:
            raise ValidationError.from_exception_data(type(self).__name__, unknown)
        return self


def refusal(field: str, value: object, message: str) -> ValidationError:
    """Return an error about one field, for validators that look at several."""
    error = PydanticCustomError("value_error", "{message}", {"message": message})
    return ValidationError.from_exception_data("suite", [InitErrorDetails(type=error, loc=(field,), input=value)])


def prefixed(error: ValidationError, field: str) -> ValidationError:
    """Return an error about a nested table as an error of the table around it."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError(detail["type"], "{message}", {"message": detail["msg"]}),
            loc=(field, *detail["loc"]),
            input=detail["input"],
        )
        for detail in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(error.title, details)


def mistakes(error: ValidationError, place: str, fields: Iterable[str]) -> Iterator[str]:
    """Yield one line for each mistake in a table.

    Args:
        error: All mistakes.
        place: The table, e.g. `train`.
        fields: The allowed fields.
    """
    for detail in error.errors(include_url=False):
        message = message_of(detail["type"], detail["msg"], detail["loc"], fields)
        yield f"{'.'.join(map(str, (place, *detail['loc'])))}: {message}"


def message_of(kind: str, message: str, loc: tuple[int | str, ...], fields: Iterable[str]) -> str:
    """Return what a user should read about one mistake, given the fields that are allowed in its place."""
    if kind == "extra_forbidden":
        return f"unknown field; {did_you_mean(str(loc[-1]), fields)}"
    if kind == "missing":
        return "this field is required"
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]
