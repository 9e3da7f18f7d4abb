"""The benchmark's messages, and the check that none was lost."""

import pika
import pytest
from pika import frame

from tests.benchmarks.bodies import Tally, Template, body, template

_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def _decoded(message: bytes) -> tuple[pika.BasicProperties, bytes]:
    used, header = frame.decode_frame(message)
    assert isinstance(header, frame.Header)
    body = b""
    while used < len(message):
        size, content = frame.decode_frame(message[used:])
        assert isinstance(content, frame.Body)
        body += content.fragment
        used += size
    assert header.body_size == len(body)
    return header.properties, body


@pytest.mark.parametrize("size", [16, 1024, 65_536])
def test_a_body_has_exactly_its_size(size: int) -> None:
    """Whatever its number is."""
    assert len(body(0, size).encode()) == size
    assert len(body(999_999, size).encode()) == size


def test_each_copy_has_its_own_number_and_ids() -> None:
    """And all that is in the frames stays readable."""
    copies = [_decoded(message) for message in template(16).messages(3)]

    assert [content.decode() for _, content in copies] == [body(n, 16) for n in range(3)]
    assert len({properties.message_id for properties, _ in copies}) == 3
    assert all(properties.correlation_id == properties.message_id for properties, _ in copies)


def test_a_large_message_is_in_several_frames() -> None:
    """A body of more than a frame arrives whole, and with the number that was asked for."""
    (message,) = template(300_000).messages(1, first=20_000)

    assert _decoded(message)[1] == body(20_000, 300_000).encode()


def test_the_envelope_of_a_framework_is_kept() -> None:
    """Only the text and the ids in it are replaced."""
    payload = f'{{"id": "{_ID}", "args": ["{body(0, 16)}"]}}'.encode()
    template = Template(pika.BasicProperties(headers={"id": _ID}), payload, 16)  # type: ignore[no-untyped-call]

    properties, content = _decoded(list(template.messages(2))[1])

    expected = _ID.replace("0f8fad5b", "00000001")
    assert properties.headers == {"id": expected}
    assert content == f'{{"id": "{expected}", "args": ["{body(1, 16)}"]}}'.encode()


def test_a_tally_without_a_number_has_lost_it() -> None:
    """A number that came twice is a duplicate, which is allowed."""
    tally = Tally(3)
    for number in (0, 2, 2):
        tally.add(body(number, 16).upper().encode())

    assert tally.lost == 1
    assert tally.duplicates == 1
    assert tally.errors == ["lost 1 of 3 messages"]


def test_a_message_that_was_not_worked_on_does_not_count() -> None:
    """It came through, but not in upper case."""
    tally = Tally(1)
    tally.add(body(0, 16).encode())

    assert tally.errors == [
        "lost 1 of 1 messages",
        "1 messages did not come out as they should",
    ]
