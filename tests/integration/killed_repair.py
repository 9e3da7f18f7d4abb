"""A repair of the doctor's that kills itself: `-m tests.integration.killed_repair WHERE`.

Standard input says which stages there are; it ends, with SIGKILL, where a line of progress begins
with WHERE.
"""

import os
import signal
import sys

from rabbit.control.client import ControlClient
from rabbit.logs import logger
from rabbit.operations.compose import Containers, stages
from rabbit.operations.management import ControlSettings, Management
from rabbit.operations.repair import Repair


def main() -> None:
    """Repair, as services.control does, up to that line."""

    def tell(said: str) -> None:
        if f"{said}\n".startswith(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

    settings = ControlSettings.load()
    log = logger(settings, stage="control")
    management = Management(settings)
    with ControlClient(settings, log, settings.halt_timeout) as client:
        declared = stages(sys.stdin.read())
        repair = Repair(declared, settings, client, management, Containers(), log)
        repair.run(repair.plan(), tell)


if __name__ == "__main__":
    main()
