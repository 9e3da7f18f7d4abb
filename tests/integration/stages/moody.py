"""Write each message, then raise, as long as the file MOOD exists."""

from pathlib import Path

from pydantic import Field

from rabbit import Settings, Worker


class MoodySettings(Settings):
    """What the environment may say."""

    mood: Path = Field(Path("/nonexistent"), description="a path")


class Moody(Worker):
    """Fail after having written, as long as the mood is bad."""

    Settings = MoodySettings
    settings: MoodySettings

    def work(self, message: str) -> None:
        """Write twice, then raise perhaps."""
        self.write(f"{message} first")
        self.write(f"{message} second")
        if self.settings.mood.exists():
            raise RuntimeError("in a bad mood")


if __name__ == "__main__":
    Moody.main()
