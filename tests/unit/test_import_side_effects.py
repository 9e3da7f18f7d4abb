"""Importing the library does nothing but import."""

import os
import subprocess
import sys
from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared"

#: Ends with the first use of a socket, of a thread, or of an environment variable of ours.
PROGRAM = """
import os, socket, sys, threading

watched = []
environment = type(os.environ)
original = environment.__getitem__

def getitem(self, name):
    if str(name).startswith("RABBITMQ_"):
        watched.append(name)
    return original(self, name)

environment.__getitem__ = getitem
sys.addaudithook(lambda event, _: watched.append(event) if event.startswith("socket.") else None)

import rabbit
assert watched == [], watched
assert threading.active_count() == 1, threading.enumerate()
assert not any(name.startswith("opentelemetry") for name in sys.modules)
try:
    rabbit.Settings.load()
except rabbit.ConfigurationError as error:
    print(error)
"""


def test_importing_neither_connects_nor_reads_the_environment() -> None:
    """Even a poisoned environment is noticed by who reads it, at `load`, and not before."""
    environment = {**os.environ, "PYTHONPATH": str(SHARED), "RABBITMQ_PORT": "garbage"}
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert child.stderr == ""
    assert child.stdout.startswith("RABBITMQ_PORT: 'garbage' is not allowed")
