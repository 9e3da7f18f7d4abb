"""What is called for a message is a plain function: calling it does all, and it returns nothing."""

import inspect
from collections.abc import Callable
from functools import partial

from rabbit.errors import ConfigurationError


def is_async(function: Callable[..., object]) -> bool:
    """Tell whether calling it runs nothing: coroutines and generators, wrapped or not."""
    while isinstance(function, partial):
        function = function.func
    kinds = (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    )
    called = getattr(function, "__call__", None)  # noqa: B004 - of an object, or of a function
    return any(is_kind(each) for is_kind in kinds for each in (function, called))


def check_work(work: Callable[..., object], owner: str, *arguments: str) -> None:
    """Raise ConfigurationError unless `work` can be called, and does its work when it is.

    Args:
        work: as it will be called.
        owner: whose it is, for a person.
        arguments: what it will be called with, by their names.
    """
    if not callable(work):
        raise ConfigurationError(f"{owner}: work is no function: define work(self, ...)")
    if is_async(work):
        raise ConfigurationError(
            f"{owner}: work is an async def or a generator, which nobody runs: "
            "make it a plain function (asyncio.run runs a coroutine in it)"
        )
    try:
        signature = inspect.signature(work)
    except ValueError:
        return  # of something that is not written in Python: it is found out by the call
    try:
        signature.bind(*arguments)
    except TypeError as error:
        wanted = ", ".join(("self", *arguments))
        raise ConfigurationError(f"{owner}: work is called as work({wanted}): {error}") from None


def unmeant(returned: object) -> TypeError:
    """Return the error that something was returned: whoever did so meant something to happen."""
    kind = type(returned).__name__
    if inspect.iscoroutine(returned):
        returned.close()
    if inspect.isawaitable(returned) or hasattr(returned, "__next__"):
        return TypeError(f"work() has returned a {kind}, which nobody runs: do the work in work()")
    return TypeError(
        f"work() has returned a {kind}, which goes nowhere: outputs are written with "
        "self.write(text), and work() returns nothing"
    )
