"""Do what each message says: fail, refuse, take its time, kill the process, or just write it."""

import json
import os
import signal
import sys
import threading

from rabbit import Reject, Retry, Worker


class Fallible(Worker):
    """Fails in each way there is; what is known of each attempt is printed first."""

    give_up_on = (LookupError,)

    def work(self, message: str) -> None:
        """Obey `COMMAND ARGUMENT`; any other text is written as it is."""
        known = {
            "text": message,
            "id": self.message.id,
            "attempt": self.message.attempt,
            "failures": self.message.failures,
            "replica": self.name,
        }
        sys.stdout.write(json.dumps(known) + "\n")
        sys.stdout.flush()
        command, _, argument = message.partition(" ")
        match command:
            case "fail":
                if self.message.failures < int(argument or sys.maxsize):
                    raise ValueError(message)
            case "retry":
                if self.message.attempt == 1:
                    raise Retry(after=float(argument))
            case "lookup":
                raise KeyError(argument)
            case "reject":
                raise Reject(argument)
            case "hang":
                threading.Event().wait(float(argument) if argument else None)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "large":
                self.write("small")
                self.write(int(argument) * "x")
                return
        self.write(message)


if __name__ == "__main__":
    Fallible.main()
