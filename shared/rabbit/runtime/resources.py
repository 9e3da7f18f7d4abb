"""What a stage opens before its first message and closes after its last one, told when it fails."""

import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rabbit.errors import ConfigurationError, RabbitError, ResourcesError
from rabbit.messaging.retry import describe

#: Of a stage; it returns a context manager, perhaps an asynchronous one.
Hook = Callable[[], Any]


def check_hook(hook: object, owner: str, *, is_async: bool) -> None:
    """Raise ConfigurationError unless calling `hook` can return a context manager.

    Args:
        hook: `resources` or `thread_resources`, of a stage.
        owner: whose it is, for a person.
        is_async: asynchronous ones can be entered, too.
    """
    if not callable(hook):
        raise ConfigurationError(f"{owner} is no function: define it with @contextmanager before")
    wrapped: Any = getattr(hook, "__wrapped__", None)
    if inspect.iscoroutinefunction(hook) or inspect.isasyncgenfunction(hook):
        how = "@asynccontextmanager before it" if is_async else "@contextmanager, and no `async`"
        raise ConfigurationError(f"{owner} is an `async def` without a decorator: write {how}")
    if inspect.isgeneratorfunction(hook):
        raise ConfigurationError(f"{owner} lacks its decorator: write @contextmanager before it")
    if wrapped is not None and inspect.isasyncgenfunction(wrapped) and not is_async:
        raise ConfigurationError(
            f"{owner} is asynchronous, and is not entered on an event loop: use @contextmanager"
        )
    try:
        inspect.signature(hook).bind()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{owner} is called without arguments: {error}") from None


@contextmanager
def opened(
    hook: Hook,
    owner: str,
    enter: Callable[[Any], AbstractContextManager[Any] | None] = lambda _made: None,
) -> Iterator[None]:
    """Enter what `hook` returns, for the time of a `with`.

    Args:
        hook: see `check_hook`.
        owner: whose it is, for a person.
        enter: returns what enters an asynchronous context manager, if anything does.

    Raises:
        ResourcesError: it has failed, when it was entered or when it was left.
        ConfigurationError: what `hook` has returned is no context manager.
    """
    with _told(hook, owner, "before the first message"):
        made = _checked(hook(), owner, enter)
        made.__enter__()
    try:
        yield
    except BaseException as error:
        with _told(hook, owner, "after the last message"):
            if made.__exit__(type(error), error, error.__traceback__):
                return
        raise
    with _told(hook, owner, "after the last message"):
        made.__exit__(None, None, None)


def _checked(
    made: Any,  # noqa: ANN401 - what is looked at here
    owner: str,
    enter: Callable[[Any], AbstractContextManager[Any] | None],
) -> AbstractContextManager[Any]:
    if hasattr(type(made), "__enter__") and hasattr(type(made), "__exit__"):
        manager: AbstractContextManager[Any] = made
        return manager
    if hasattr(type(made), "__aenter__") and hasattr(type(made), "__aexit__"):
        manager_on_loop = enter(made)
        if manager_on_loop is not None:
            return manager_on_loop
    raise ConfigurationError(
        f"{owner} returns a {type(made).__name__}, which is no context manager: write "
        "@contextmanager before it, and `yield` once in it"
    )


@contextmanager
def _told(hook: Hook, owner: str, when: str) -> Iterator[None]:
    """Say of an error whose it is, in one line; what the library itself raises says so."""
    try:
        yield
    except RabbitError:
        raise
    except Exception as error:
        said = " ".join(describe(error).split())
        place = _place(hook, error)
        raise ResourcesError(
            f"{owner} failed {when}: {type(error).__name__}{': ' if said else ''}{said}{place}"
        ) from error


def _place(hook: Hook, error: BaseException) -> str:
    """Say which line of the hook's own it was, if any."""
    code = getattr(inspect.unwrap(hook), "__code__", None)
    lines = [
        number
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_code is code and code is not None
    ]
    return f" ({code.co_filename}:{lines[-1]})" if code and lines else ""
