"""What the environment may say of the board, beside what every stage and control have."""

from pydantic import Field

from rabbit.operations.management import ControlSettings


class BoardSettings(ControlSettings):
    """Where the board listens."""

    listen_host: str = Field("0.0.0.0", description="an address to listen on")  # noqa: S104 - of a container; its port is published on 127.0.0.1
    listen_port: int = Field(8080, ge=1, le=65535, description="a port number, 1 to 65535")
