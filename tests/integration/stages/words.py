"""Write each word as a message, with a routing key where the edge has keys."""

from pydantic import Field

from rabbit import Producer, Settings


class WordsSettings(Settings):
    """What the environment may say."""

    messages: str = Field(description="words, each one message")
    key: str | None = Field(None, description="the routing key of all of them")


class Words(Producer):
    """Write them."""

    Settings = WordsSettings
    settings: WordsSettings

    def work(self) -> None:
        """Write one after the other."""
        for word in self.settings.messages.split():
            self.write(word, self.settings.key)


if __name__ == "__main__":
    Words.main()
