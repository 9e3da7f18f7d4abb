"""What is wrong with the settings, as one line for a person: it never shows a secret.

A value is shown only where no secret is looked for: of the library's own plain settings, and of a
stage's own that are a number, a path or a choice; never where it has a login in it, and never of a
setting that is secret by its type or its name. Anything else may hold a secret: any text of a
stage's own, a model, a list, what a check says of it, what stands beside a missing setting.
"""

import re
from collections.abc import Iterator
from enum import Enum
from inspect import get_annotations
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings.exceptions import SettingsError

NOT_SHOWN = "(not shown)"

_PLAIN = (str, int, float, bool, Path, Enum, NoneType)
_NO_TEXT = (int, float, bool, Path, Enum, NoneType)
_SECRET_NAME = re.compile(
    r"passw|passphrase|secret|token|credential|(api|access|private|signing|encryption)_?key$"
    r"|(^|_)(url|uri|dsn)s?$",
    re.IGNORECASE,
)


def told(why: str) -> PydanticCustomError:
    """Make an error whose line says more than what is allowed; it may show the value."""
    return PydanticCustomError("told", "{why}", {"why": why})


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """Turn the first finding into one line.

    Args:
        model: the settings.
        error: what pydantic says of them.
    """
    finding = error.errors()[0]
    kind, message, place = finding["type"], finding["msg"], finding["loc"]
    if not place:
        return message if kind == "told" else f"{model.__name__}: a check of its own {NOT_SHOWN}"
    name = str(place[0])
    field = _field(model, name)
    variable = ".".join([name.upper(), *_inner(field, place)])
    open_ = field is not None and _is_open(model, name, field)
    is_pydantics = open_ and kind not in {"value_error", "assertion_error"}
    allowed = (field and field.description) or (
        message if is_pydantics else f"see {model.__name__}"
    )
    if kind == "missing":
        return f"{variable} is not set, and has no default; allowed: {allowed}"
    value = finding["input"]
    is_shown = open_ and isinstance(value, _PLAIN) and "@" not in str(value)  # user:password@host
    shown = repr(value) if is_shown else f"the value {NOT_SHOWN}"
    why = f"; {message}" if kind == "told" else ""
    return f"{variable}: {shown} is not allowed; allowed: {allowed}{why}"


def explain_unparsed(model: type[BaseModel], error: SettingsError) -> str:
    """Turn what is no JSON, where it should be, into one line."""
    found = re.search(r'field "(\w+)"', str(error))
    if not found:
        return f"{model.__name__}: a setting {NOT_SHOWN} is not JSON, as it has to be"
    name = found[1]
    field = model.model_fields.get(name)
    allowed = (field and field.description) or f"see {model.__name__}"
    variable = next(iter(_aliases(field)), name) if field else name
    return f"{variable.upper()}: the value {NOT_SHOWN} is not JSON; allowed, as JSON: {allowed}"


def _field(model: type[BaseModel], name: str) -> FieldInfo | None:
    """Find a field by its name or, what pydantic tells where there is one, by an alias."""
    for known, field in model.model_fields.items():
        aliases = [alias.lower() for alias in _aliases(field)]
        if name == known or name.lower() in aliases:
            return field
    return None


def _aliases(field: FieldInfo) -> Iterator[str]:
    given = field.validation_alias or field.alias
    for each in given.choices if isinstance(given, AliasChoices) else [given]:
        if isinstance(each, AliasPath):
            yield str(each.path[0])
        elif each is not None:
            yield each


def _inner(field: FieldInfo | None, place: tuple[int | str, ...]) -> Iterator[str]:
    """Name the field of a model within a model; a key of a dictionary may be a secret."""
    model = field.annotation if field else None
    for part in place[1:]:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return
        field = _field(model, str(part))
        if field is None:
            return
        yield str(part)
        model = field.annotation


def is_open(model: type[BaseModel], name: str) -> bool:
    """Tell whether the value of a setting may be shown."""
    return _is_open(model, name, model.model_fields[name])


def _is_open(model: type[BaseModel], name: str, field: FieldInfo) -> bool:
    plain = _PLAIN if _is_ours(model, name) else _NO_TEXT
    return not _SECRET_NAME.search(name) and _is_plain(field.annotation, plain)


def _is_ours(model: type[BaseModel], name: str) -> bool:
    """Tell whether it is the library that declares a setting, last of all."""
    owners = [each for each in model.__mro__ if name in get_annotations(each)]
    return bool(owners) and owners[0].__module__.startswith("rabbit.")


def _is_plain(kind: Any, plain: tuple[type, ...]) -> bool:  # noqa: ANN401 - any annotation
    origin = get_origin(kind)
    if origin is Annotated:
        return _is_plain(get_args(kind)[0], plain)
    if origin in {Union, UnionType}:
        return all(_is_plain(each, plain) for each in get_args(kind))
    if origin is tuple:
        return all(each is ... or _is_plain(each, plain) for each in get_args(kind))
    return origin is Literal or (isinstance(kind, type) and issubclass(kind, plain))
