"""Compiles the references in C, where a compiler and librabbitmq are there."""

import re
import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent / "c"
BUILD = FOLDER / "build"

#: Each is a file of that name.
PROGRAMS = ("relay", "publish", "print")

#: Where the folder is seen in a container.
INSIDE = "/c"

#: The libraries that come along; the image has the rest, the C library above all.
_LIBRARIES = re.compile(r"=> (\S+/lib(?:rabbitmq|ssl|crypto|zstd|z)\.so\S*)")

_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Wl,-rpath,$ORIGIN")
_HINT = (
    "the C reference needs a compiler and librabbitmq: on Debian, apt install gcc librabbitmq-dev"
)


class NotCompiledError(Exception):
    """There are no C programs; says what to install."""


def build() -> Path:
    """Compile the programs; return the folder with them and with their libraries.

    Raises:
        NotCompiledError: when the compiler or the library is missing.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotCompiledError(_HINT)
    shutil.rmtree(BUILD, ignore_errors=True)  # else the libraries would be found here themselves
    BUILD.mkdir()
    for name in PROGRAMS:
        sources = [str(FOLDER / f"{name}.c"), str(FOLDER / "client.c")]
        command = [compiler, *_FLAGS, "-o", str(BUILD / name), *sources, "-lrabbitmq"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotCompiledError(f"{_HINT}\n{done.stderr}")
    _bring_libraries(BUILD / "relay")
    return BUILD


def _bring_libraries(program: Path) -> None:
    """Copy the libraries beside the programs: the image they run in does not have them."""
    linked = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True)
    for library in _LIBRARIES.findall(linked.stdout):
        shutil.copy(library, BUILD)


def version() -> str:
    """Return the version of librabbitmq, from the name of the library it is linked with."""
    found = sorted(BUILD.glob("librabbitmq.so*"))
    package = ["dpkg-query", "--show", "--showformat", "${Version}", "librabbitmq4"]
    try:
        shown = subprocess.run(package, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return found[0].name if found else "unknown"
    return shown
