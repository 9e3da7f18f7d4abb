"""One call of a stage's work."""

import gc
import sys
import threading
import weakref
from typing import Any

import pytest

from rabbit.errors import TooLargeError, UndecodableError
from rabbit.message import Message, derived_id
from rabbit.output import new_output
from rabbit.runtime.handler import Handler


def properties(message_id: str) -> bytes:
    """Return those of a text of ours."""
    return new_output(b"", message_id, "c").properties


def message(body: bytes, message_id: str = "m") -> Message:
    """Return a message as a delivery brings it."""
    return Message(body, properties(message_id), redelivered=False, routing_key="")


def test_outputs_are_what_was_written_in_order() -> None:
    """Ids derive from input, stage and index; the correlation id is carried through."""

    def work(text: str) -> None:
        handler.write(text.upper(), None)
        handler.write("again", "red")

    handler = Handler(work, "to_upper")

    outputs = [
        new_output(b"HELLO", derived_id("m", "to_upper", 0), "c", None),
        new_output(b"again", derived_id("m", "to_upper", 1), "c", "red"),
    ]
    call = handler.run(message(b"hello"))
    assert (outputs, None) == (call.outputs, call.error)


@pytest.mark.parametrize("nothing", [None, 5, 5.0, {1}])
def test_what_is_no_text_is_not_written(nothing: Any) -> None:
    """It is told as such, not as an attribute that is missing."""
    handler = Handler(lambda _text: handler.write(nothing, None), "stage")

    call = handler.run(message(b"hello"))
    with pytest.raises(TypeError, match=f"a message is a text, not {type(nothing).__name__}"):
        raise call.error or AssertionError


class Odd(str):
    """A text that encodes itself in a way of its own."""

    __slots__ = ()

    def encode(self, *_arguments: str) -> Any:
        """Return what is no body."""
        return "no bytes"


def test_a_text_is_encoded_as_the_text_it_is() -> None:
    """Whatever class it is of: what leaves is bytes."""
    handler = Handler(lambda _text: handler.write(Odd("odd"), None), "stage")

    [output] = handler.run(message(b"hello")).outputs
    assert output.body == b"odd"


def test_a_call_that_fails_has_written_nothing() -> None:
    """All or nothing: what came before the error does not leave."""
    error = ValueError("no")

    def work(text: str) -> None:
        handler.write(text, None)
        raise error

    handler = Handler(work, "stage")

    call = handler.run(message(b"hello"))
    assert ([], error) == (call.outputs, call.error)


def test_a_failed_call_leaves_nothing_to_the_next() -> None:
    """The next message starts with no outputs and with index 0."""

    def work(text: str) -> None:
        handler.write(text, None)
        if text == "bad":
            raise ValueError

    handler = Handler(work, "stage")
    handler.run(message(b"bad"))
    outputs = handler.run(message(b"good")).outputs

    assert [new_output(b"good", derived_id("m", "stage", 0), "c", None)] == outputs


class Weak(Message):
    """A message that can be looked after."""


def test_a_failed_message_is_let_go_of_at_once() -> None:
    """Not when the garbage collector comes by: bodies may be large."""

    def work(_text: str) -> None:
        raise ValueError

    failing = Weak(b"hello", properties("m"), redelivered=False, routing_key="")
    seen = weakref.ref(failing)
    call = Handler(work, "stage").run(failing)
    gc.disable()
    try:
        del call, failing
        assert seen() is None
    finally:
        gc.enable()


def test_what_is_not_utf_8_fails_without_a_call() -> None:
    """The handler never sees it; the failure is the message's, and does not raise here."""
    calls: list[str] = []
    call = Handler(calls.append, "stage").run(message(b"\xff"))

    assert isinstance(call.error, UnicodeDecodeError)
    assert calls == []


def test_what_is_too_large_fails_without_a_call() -> None:
    """The limit itself is allowed."""
    calls: list[str] = []
    handler = Handler(calls.append, "stage", max_message_bytes=5)

    assert handler.run(message(b"hello")).error is None
    assert isinstance(handler.run(message(b"hello!")).error, TooLargeError)
    assert calls == ["hello"]


def test_headers_that_cannot_be_decoded_fail_without_a_call() -> None:
    """Work would meet the error wherever it first asks for the attempt."""
    calls: list[str] = []
    timestamp = b"\x20\x00\x00\x00\x00\x0a\x00T\xff\xff\xff\xff\xff\xff\xff\xff"
    odd = Message(b"hello", timestamp, redelivered=False, routing_key="")

    assert isinstance(Handler(calls.append, "stage").run(odd).error, UndecodableError)
    assert calls == []


def test_an_exit_is_a_failure_like_any_other() -> None:
    """`sys.exit()` in a handler must not end just its thread: the stage would hang."""
    call = Handler(lambda _text: sys.exit(3), "stage").run(message(b"hello"))

    assert call.outputs == []
    assert isinstance(call.error, SystemExit)


def test_there_is_no_message_outside_of_work() -> None:
    """Writing then says so, before and after a call."""
    handler = Handler(lambda _text: None, "stage")
    with pytest.raises(RuntimeError, match="only within work"):
        handler.write("lost", None)

    handler.run(message(b"hello"))
    with pytest.raises(RuntimeError, match="only within work"):
        _ = handler.message


def test_another_thread_has_no_message() -> None:
    """A thread that work has started cannot write to its message by accident."""
    seen: list[type[BaseException]] = []

    def write() -> None:
        try:
            handler.write("lost", None)
        except RuntimeError as error:
            seen.append(type(error))

    def work(_text: str) -> None:
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()

    handler = Handler(work, "stage")

    assert handler.run(message(b"hello")).outputs == []
    assert [RuntimeError] == seen


def test_threads_are_kept_apart() -> None:
    """Handlers that run at the same time see their own message and write their own outputs."""
    together = threading.Barrier(3, timeout=5)
    outputs: dict[str, list[bytes]] = {}

    def work(text: str) -> None:
        together.wait()
        handler.write(handler.message.id, None)
        together.wait()
        handler.write(text, None)

    def run(name: str) -> None:
        call = handler.run(message(name.encode(), message_id=f"id-{name}"))
        outputs[name] = [output.body for output in call.outputs]

    handler = Handler(work, "stage")
    threads = [threading.Thread(target=run, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {name: [f"id-{name}".encode(), name.encode()] for name in "abc"} == outputs


def test_a_message_is_forwarded_as_it_is() -> None:
    """The same bytes, also when they are no text, with an id derived from the input's."""
    forwarded = Handler(print, "stage").forward(message(b"\xff"))

    assert new_output(b"\xff", derived_id("m", "stage", 0), "c", None) == forwarded
