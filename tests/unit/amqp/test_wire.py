"""What the codec leaves to pika: pika has no look at the properties of a message."""

# mypy: disable-error-code="no-untyped-call"

import struct

import pytest
from pika import frame
from pika.spec import BasicProperties

from rabbit.amqp.pika_types import encode_properties
from rabbit.amqp.wire import Wire
from rabbit.errors import ProtocolError

TABLE = b"\x05shorts" + struct.pack(">h", 2) + b"\x05priced" + struct.pack(">d", 1.5)
PROPERTIES = b"\x20\x80" + len(TABLE).to_bytes(4, "big") + TABLE + b"\x01m"


class Encoded(BasicProperties):
    """Properties that are sent as they are given."""

    def encode(self) -> list[bytes]:
        """Return what pika would refuse to make."""
        return [PROPERTIES]


def wire(received: bytes) -> Wire:
    """Return a connection that has received this, and was never connected."""
    made = object.__new__(Wire)
    made._frame_buffer = received
    return made


def test_properties_are_passed_on_as_they_came() -> None:
    """Floats among them, and types that pika does not know."""
    received = frame.Header(3, 5, Encoded()).marshal()

    consumed, header = wire(received)._read_frame()  # noqa: SLF001

    assert consumed == len(received)
    assert (header.channel_number, header.body_size) == (3, 5)
    assert encode_properties(header.properties) == PROPERTIES


@pytest.mark.parametrize("place", [0, -1])
def test_a_broken_header_is_left_to_pika(place: int) -> None:
    """It says what is wrong, or that it is none."""
    received = bytearray(frame.Header(3, 5, Encoded()).marshal())
    received[place] = 7

    with pytest.raises(ProtocolError):
        wire(bytes(received))._read_frame()  # noqa: SLF001
