"""Upper-case every message, as a later version would: its reports have fields that are unknown."""

from rabbit import Worker
from rabbit.control.messages import Report
from rabbit.runtime import reporter


class LaterReport(Report):
    """A report of a later version that earlier ones can read."""

    mood: str = "good"
    load: dict[str, float] = {"one": 0.5}  # noqa: RUF012 - pydantic copies it


class ToUpper(Worker):
    """Upper-case every message."""

    def work(self, message: str) -> None:
        """Write the message in upper case."""
        self.write(message.upper())


if __name__ == "__main__":
    setattr(reporter, "Report", LaterReport)  # noqa: B010 - it exports none
    ToUpper.main()
