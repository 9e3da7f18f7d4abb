"""Write numbered messages for each key: one for each of them, then the next, and so on."""

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from rabbit import Producer, Settings


class KeyedSourceSettings(Settings):
    """What the environment may say."""

    keys: str = Field(description="keys with commas between")
    count: PositiveInt = Field(description="messages for each key")
    first: NonNegativeInt = Field(0, description="the number of the first of these")
    pause: NonNegativeFloat = Field(0.0, description="seconds after each round")


class KeyedSource(Producer):
    """Write them."""

    Settings = KeyedSourceSettings
    settings: KeyedSourceSettings

    def work(self) -> None:
        """Write one of each key after the other."""
        for number in range(self.settings.first, self.settings.first + self.settings.count):
            for key in self.settings.keys.split(","):
                self.write(str(number), key)
            self.wait(self.settings.pause)


if __name__ == "__main__":
    KeyedSource.main()
