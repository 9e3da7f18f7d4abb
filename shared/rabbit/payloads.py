"""What `work` takes and `write` gives, and the bytes of a body: the annotation is the schema.

Text and bytes are themselves; everything else is JSON, read and checked by pydantic.
"""

import dataclasses
import inspect
import typing
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_json

from rabbit.amqp.properties import ENCODING_BIT
from rabbit.amqp.sent_properties import HEADED_TEXT, JSON, OCTETS, PLAIN_TEXT, TEXT, Content
from rabbit.errors import ConfigurationError, InvalidPayloadError, TooLargeError, UndecodableError
from rabbit.message import Message

#: How large a body may get that was packed, where MAX_MESSAGE_BYTES does not say it.
MOST_UNPACKED_BYTES = 64 * 1024 * 1024

#: So many of the fields that are wrong are named.
_MOST_FIELDS = 10

#: What zlib calls what the encodings contain (its `wbits`).
_WINDOWS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}
_TEXTS = (PLAIN_TEXT, HEADED_TEXT)
_UNKNOWN = frozenset({"br", "bzip2", "compress", "lz4", "lzma", "snappy", "xz", "zstd"})


class Payload:
    """What one `work` takes.

    Attributes:
        is_text: whether it is the plain text, as it came.
    """

    def __init__(self, annotation: object = str) -> None:
        """Prepare to read it.

        Args:
            annotation: str; bytes; or what pydantic reads JSON into: a model, a dataclass, a
                TypedDict, dict, list[...] and so on.

        Raises:
            ConfigurationError: it is nothing of these.
        """
        self.is_text = any(annotation is plain for plain in (str, Any, object))
        base = _without_names(annotation)
        self._is_bytes, self._reads_text = base is bytes, self.is_text or base is str
        is_checked = not (self.is_text or annotation is bytes)
        self._adapter = _adapter(annotation) if is_checked else None

    def read(self, message: Message, most_bytes: int) -> Any:  # noqa: ANN401 - what was annotated
        """Return what `work` is called with.

        Args:
            message: what came. Bytes stay packed as they are.
            most_bytes: how large its body may be, unpacked.

        Raises:
            InvalidPayloadError: it is not what was annotated.
            UnicodeDecodeError: it is no text, where that was annotated.
            UndecodableError: it is packed in a way that we do not know, or is broken.
            TooLargeError: it is larger, unpacked.
        """
        body = message.body if self._is_bytes else unpacked(message, most_bytes)
        value: Any = body
        if self._reads_text:
            value = body.decode() if body is message.body else _as_text(body)
        if self._adapter is None:
            return value
        try:
            if self._is_bytes or self._reads_text:
                return self._adapter.validate_python(value)
            return self._adapter.validate_json(value)
        except ValidationError as error:
            raise InvalidPayloadError(self._describe(error)) from None

    def _describe(self, error: ValidationError) -> str:
        """Say which fields are wrong and how; no value of a message is shown, and no key of one."""
        found = error.errors(include_url=False, include_input=False)
        told = [self._describe_one(each) for each in found[:_MOST_FIELDS]]
        more = len(found) - len(told)
        return f"{error.title}: {'; '.join(told)}{f'; {more} more' if more else ''}"

    def _describe_one(self, found: Mapping[str, Any]) -> str:
        kind, where = str(found["type"]), found["loc"]
        if kind == "json_invalid":
            return f"no JSON: {found['ctx']['error']}"
        names = [str(part) if self._is_known(part) else "*" for part in where]
        return f"{'.'.join(names)}: {kind}" if names else kind

    def _is_known(self, part: object) -> bool:
        """Tell whether a part of a path stands in the schema; else it is the sender's."""
        return isinstance(part, int) or part in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        assert self._adapter is not None  # noqa: S101 - who validates has one
        return frozenset(_texts(self._adapter.core_schema))


def annotation_of(work: Callable[..., object], owner: str, default: object = str) -> object:
    """Return what the first parameter of `work` is annotated with.

    Args:
        work: as it will be called, with one argument.
        owner: whose it is, for a person.
        default: returned where nothing is annotated.

    Raises:
        ConfigurationError: it is a name that cannot be found.
    """
    try:
        (name, parameter), *_ = inspect.signature(work).parameters.items()
    except (ValueError, TypeError):  # it takes none, or is not written in Python
        return default
    if parameter.annotation is parameter.empty:
        return default
    if not isinstance(parameter.annotation, str) and not _has_names(parameter.annotation):
        return parameter.annotation
    function = inspect.unwrap(work)
    while hasattr(function, "func"):
        function = function.func
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        function = type(function).__call__
    try:
        return typing.get_type_hints(function, include_extras=True)[name]
    except Exception as error:  # noqa: BLE001 - whatever its evaluation raises
        raise ConfigurationError(
            f"{owner}: what work takes, {parameter.annotation!r}, cannot be found ({error}): "
            "import it where the class is defined, at the top of the file"
        ) from None


def encoded(value: object) -> tuple[bytes, Content]:
    """Return the body of a message that is this value, and what kind of body that is.

    Args:
        value: a text, bytes, a pydantic model, a dataclass, a dict, a list or a tuple.

    Raises:
        TypeError: it is something else, or holds what JSON does not have.
    """
    if isinstance(value, str):
        return str.encode(value), TEXT  # of a subclass, too
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), OCTETS
    try:
        if isinstance(value, BaseModel):
            return value.model_dump_json().encode(), JSON
        is_instance = dataclasses.is_dataclass(value) and not isinstance(value, type)
        if is_instance or isinstance(value, Mapping | list | tuple):
            return to_json(value), JSON
    except (PydanticSerializationError, ValueError) as error:
        msg = f"{type(value).__name__} cannot be written as JSON: {error}"
        raise TypeError(msg) from None
    msg = (
        f"a message is a text, not {type(value).__name__}: make it one first, say with str(); or "
        "bytes, a model, a dataclass, a dict or a list"
    )
    raise TypeError(msg)


def unpacked(message: Message, most_bytes: int = MOST_UNPACKED_BYTES) -> bytes:
    """Return a body without its `content_encoding`, if that is gzip or deflate.

    Args:
        message: what came. Any other encoding names its characters, or is its sender's own matter.
        most_bytes: how large it may get.

    Raises:
        UndecodableError: it is broken, or packed in a way that we do not know.
        TooLargeError: it gets larger.
    """
    properties = message.properties
    if not properties[0] & ENCODING_BIT or properties.startswith(_TEXTS):
        return message.body
    try:
        encoding = (message.content_encoding or "").strip().lower()
    except ValueError as error:
        msg = f"properties that cannot be decoded: {error!r}"
        raise UndecodableError(msg) from error
    if encoding in _UNKNOWN:
        msg = f"content_encoding {encoding!r}: gzip and deflate can be unpacked"
        raise UndecodableError(msg)
    if encoding not in _WINDOWS:
        return message.body
    for window in _WINDOWS[encoding]:
        try:
            return b"".join(_inflated(message.body, window, most_bytes))
        except zlib.error as error:
            reason = error
    msg = f"content_encoding {encoding!r}: the body cannot be unpacked: {reason}"
    raise UndecodableError(msg)


def _inflated(body: bytes, window: int, most_bytes: int) -> Iterator[bytes]:
    """Yield what is packed, one part after the other (RFC 1952, section 2.2)."""
    size = 0
    while True:
        part = zlib.decompressobj(window)
        data = part.decompress(body, most_bytes - size + 1)
        size += len(data)
        if size > most_bytes:
            msg = f"a message of more than {most_bytes} bytes, unpacked: see MAX_MESSAGE_BYTES"
            raise TooLargeError(msg)
        yield data
        if not part.eof:
            msg = "it is cut short"
            raise zlib.error(msg)
        body = part.unused_data
        if not body:
            return


def _as_text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        msg = f"no text: byte {error.start} of {len(body)}, unpacked, is not UTF-8"
        raise InvalidPayloadError(msg) from None


def _adapter(annotation: object) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(cast("Any", annotation))
        if not adapter.pydantic_complete:
            adapter.rebuild(raise_errors=True)
    except (PydanticUserError, NameError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"work takes {annotation!r}, which no message can be read into ({reason}): annotate "
            "it with str, bytes, a pydantic model, a dataclass, a TypedDict, dict or list[...]"
        ) from None
    return adapter


def _without_names(annotation: object) -> object:
    """Return what is annotated beneath Annotated[...] and NewType."""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        else:
            return annotation


def _has_names(annotation: object) -> bool:
    """Tell whether something within an annotation stands there as a text: list["Order"]."""
    parts = typing.get_args(annotation)
    return isinstance(annotation, str | typing.ForwardRef) or any(map(_has_names, parts))


def _texts(schema: object) -> Iterator[str]:
    """Yield all texts of a schema: the names of its fields among them."""
    if isinstance(schema, str):
        yield schema
    elif isinstance(schema, Mapping):
        yield from (key for key in schema if isinstance(key, str))
        for value in schema.values():
            yield from _texts(value)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from _texts(value)
