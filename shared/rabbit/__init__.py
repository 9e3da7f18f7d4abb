"""A RabbitMQ pipeline, one process per stage: subclass Worker, define work, run it.

from rabbit import Worker

class ToUpper(Worker):
    def work(self, message: str) -> None:
        self.write(message.upper())

if __name__ == "__main__":
    ToUpper.main()

The whole way of a message through a replica, and why nothing is lost on it, is one function:
`rabbit.runtime.dispatcher.Dispatcher.turn`.
"""

from rabbit.errors import (
    BrokerUnavailableError,
    ClosedError,
    ConfigurationError,
    DrainTimeoutError,
    Halted,
    HandlerTimeoutError,
    IncompleteError,
    PublishError,
    RabbitError,
    RefusedError,
    Reject,
    ResourcesError,
    Retry,
    TooLargeError,
    TopologyError,
    UnroutableError,
)
from rabbit.message import Message
from rabbit.message_queue import MessageQueue
from rabbit.settings import Settings
from rabbit.stage import BatchConsumer, Consumer, Producer, Worker
from rabbit.version import __version__

__all__ = [
    "BatchConsumer",
    "BrokerUnavailableError",
    "ClosedError",
    "ConfigurationError",
    "Consumer",
    "DrainTimeoutError",
    "Halted",
    "HandlerTimeoutError",
    "IncompleteError",
    "Message",
    "MessageQueue",
    "Producer",
    "PublishError",
    "RabbitError",
    "RefusedError",
    "Reject",
    "ResourcesError",
    "Retry",
    "Settings",
    "TooLargeError",
    "TopologyError",
    "UnroutableError",
    "Worker",
    "__version__",
]
