"""An `async def work` that does what each message says, and writes."""

import asyncio
import sys
import time

from rabbit import Worker


class Awaiting(Worker):
    """Waits, hangs, blocks the event loop, ends its task: as the text says."""

    together = 0
    everybody = asyncio.Event()

    async def work(self, message: str) -> None:
        """Obey `COMMAND ARGUMENT`; then write the text, and the id that is seen."""
        command, _, argument = message.partition(" ")
        match command:
            case "wait":
                sys.stdout.write(f"{message}\n")
                sys.stdout.flush()
                await asyncio.sleep(float(argument))
            case "meet":
                await self.meet(int(argument))
            case "hang":
                await asyncio.get_running_loop().create_future()
            case "block":
                time.sleep(float(argument))  # noqa: ASYNC251 - that is what is tested
            case "cancel":
                raise asyncio.CancelledError
            case "exit":
                sys.exit(7)
            case "leave":
                asyncio.create_task(self.late())  # noqa: RUF006 - a mistake
        await asyncio.to_thread(self.write, f"{message} {self.message.id}")

    async def meet(self, count: int) -> None:
        """Wait until so many are here."""
        self.together += 1
        if self.together == count:
            self.everybody.set()
        await self.everybody.wait()

    async def late(self) -> None:
        """Write when `work` has returned; nobody sees to what comes of it."""
        await asyncio.sleep(0.05)
        self.write("late")


if __name__ == "__main__":
    Awaiting.main()
