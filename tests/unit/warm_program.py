"""Say what it sees of itself, and end as it is told to."""

import os
import signal
import sys


def main() -> None:
    """Do that."""
    names = [name for name in os.environ if name != "LC_CTYPE"]
    given, read = os.environ.get("GIVEN"), sys.stdin.read()
    sys.stdout.write(f"{__name__} {names} {given} {os.getpid()} {read!r}\n")
    match sys.argv[1].split():
        case ["exit", code]:
            sys.exit(int(code))
        case ["raise"]:
            raise RuntimeError
        case ["die"]:
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        case ["wait"]:
            signal.pause()


if __name__ == "__main__":
    main()
