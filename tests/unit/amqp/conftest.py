"""What the tests of the network have in common."""

import pytest

from tests.unit.amqp.certificates import Certificates


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    """Make a CA and a server's certificate, once."""
    return Certificates()
