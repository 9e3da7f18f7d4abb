"""Write each message unchanged, as often and as slowly as the environment says."""

import time

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from rabbit import Settings, Worker


class RelaySettings(Settings):
    """What the environment may say."""

    delay: NonNegativeFloat = Field(0.0, description="seconds of work")
    copies: NonNegativeInt = Field(1, description="outputs for each message")
    keyed: bool = Field(
        default=False, description="one output for each word, which is its routing key"
    )
    same_id: bool = Field(default=False, description="written with the id that it came with")
    same_key: bool = Field(default=False, description="written with the key that it came with")


class Relay(Worker):
    """Write each message unchanged."""

    Settings = RelaySettings
    settings: RelaySettings

    def work(self, message: str) -> None:
        """Take the time, then write."""
        time.sleep(self.settings.delay)
        if self.settings.same_key:
            self.write(message, self.message.routing_key)
            return
        message_id = self.message.id if self.settings.same_id else None
        for _ in range(self.settings.copies):
            for key in message.split() if self.settings.keyed else [None]:
                self.write(message, key, message_id=message_id)


if __name__ == "__main__":
    Relay.main()
