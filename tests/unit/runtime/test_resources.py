"""What a stage opens for itself is looked at when the stage is built, and told when it fails."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from typing import Any

import pytest

from rabbit import ConfigurationError, Consumer, Producer, ResourcesError
from rabbit.runtime.resources import opened
from rabbit.testing import harness


def plain(_self: object) -> Iterator[None]:
    """Lack a decorator."""
    yield


async def asynchronous(_self: object) -> AsyncIterator[None]:
    """Likewise."""
    yield


async def awaiting(_self: object) -> None:
    """Yield nothing."""


async def waits(_self: object, _message: str) -> None:
    """Be an asynchronous work."""


def works(*_: object) -> None:
    """Be a plain one."""


on_a_loop = asynccontextmanager(asynchronous)

WRONG: list[tuple[object, str]] = [
    (plain, "lacks its decorator: write @contextmanager"),
    (asynchronous, "is an `async def` without a decorator: write @contextmanager, and no"),
    (awaiting, "is an `async def` without a decorator"),
    (on_a_loop, "is asynchronous, and is not entered on an event loop"),
    ({}, "is no function"),
    (lambda _self, _more: nullcontext(), "is called without arguments: missing a required"),
]


@pytest.mark.parametrize("name", ["resources", "thread_resources"])
@pytest.mark.parametrize(("hook", "said"), WRONG)
def test_what_cannot_be_entered_is_refused(name: str, hook: object, said: str) -> None:
    """When the stage is built, in one line."""
    odd = type("Odd", (Consumer,), {"work": works, name: hook})

    with pytest.raises(ConfigurationError, match=rf"^Odd\.{name}\(\) {said}"):
        harness(odd)


def test_that_of_a_source_is_looked_at_too() -> None:
    """It has resources, and no handler threads."""
    odd: Any = type("Odd", (Producer,), {"work": works, "resources": plain})

    with pytest.raises(ConfigurationError, match="lacks its decorator"):
        odd(output="out")


def test_an_async_stage_may_have_either_kind() -> None:
    """But nothing for each thread: it has one."""
    for hook in (on_a_loop, contextmanager(plain)):
        harness(type("Fine", (Consumer,), {"work": waits, "resources": hook}))
    odd = type("Odd", (Consumer,), {"work": waits, "thread_resources": contextmanager(plain)})

    with pytest.raises(ConfigurationError, match="all of it runs in one thread: use resources"):
        harness(odd)


@contextmanager
def never_yields() -> Iterator[None]:
    """Forget to."""
    yield from ()


@pytest.mark.parametrize(
    ("hook", "error", "said"),
    [
        (dict, ConfigurationError, "mine returns a dict, which is no context manager"),
        (on_a_loop, ConfigurationError, "mine returns a _AsyncGeneratorContextManager, which"),
        (never_yields, ResourcesError, "mine failed before the first message: RuntimeError"),
    ],
)
def test_what_is_no_context_manager_after_all_is_told(
    hook: Callable[..., object], error: type[Exception], said: str
) -> None:
    """When it is entered."""
    with ExitStack() as stack, pytest.raises(error, match=said):
        stack.enter_context(opened(hook if hook is not on_a_loop else lambda: on_a_loop(0), "mine"))


def test_what_the_library_says_stays_as_it_is() -> None:
    """A stage's own check may end it with exit code 2."""

    def refuse() -> AbstractContextManager[None]:
        raise ConfigurationError("STORE_URL is missing")

    with ExitStack() as stack, pytest.raises(ConfigurationError, match=r"^STORE_URL is missing"):
        stack.enter_context(opened(refuse, "mine"))


class Local(Consumer):
    """Keeps what is its own."""

    def work(self, message: str) -> None:
        """Count."""
        self.local.count = getattr(self.local, "count", 0) + len(message)


def test_what_is_local_is_the_threads() -> None:
    """It is made by nobody; a stage that calls something of its own so keeps that."""
    fed = harness(Local)
    fed.send("abc")
    assert fed.stage.local.count == 3

    mine = type("Mine", (Consumer,), {"work": works, "local": "mine"})
    assert harness(mine).stage.local == "mine"
