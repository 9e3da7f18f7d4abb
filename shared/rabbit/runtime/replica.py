"""One replica, from connect to exit: a turn of the loop, and the ordered stop."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from time import monotonic, sleep

from rabbit.amqp.connection import Connection, User
from rabbit.amqp.network import Network
from rabbit.control.listener import ControlListener
from rabbit.control.messages import LAST_WORDS_SECONDS, Command, State
from rabbit.control.name_lock import NameLock
from rabbit.errors import DrainTimeoutError, RabbitError
from rabbit.logs import Logger
from rabbit.runtime.health import Health, Standstills
from rabbit.runtime.reporter import Identity, Reporter
from rabbit.runtime.runner import Connections, Runner, reason_of
from rabbit.runtime.signals import stop_signals
from rabbit.runtime.watchdog import Watchdog
from rabbit.settings import Settings

#: How often the replica looks at what does not announce itself.
TICK_SECONDS = 0.5

_NEWS = {
    State.STARTING: "not ready",
    State.RUNNING: "ready",
    State.BLOCKED: "blocked: the broker takes no messages from this stage now",
    State.PAUSING: "pausing",
    State.PAUSED: "paused until it is resumed",
}

#: Ready, as a health check takes it: messages can be settled, or somebody wants none to be. An
#: alarm is the broker's. To start such a replica anew would help nobody.
_READY = {State.RUNNING, State.BLOCKED, State.PAUSING, State.PAUSED}

#: Something else comes soon.
_ON_THE_WAY = {State.STARTING, State.PAUSING}

#: To so many who have paused or resumed it the replica tells when it has.
MOST_AWAITING = 100


#: While so many messages are in flight, or were just now, the loop pauses after a turn that has
#: moved few bytes, in seconds: more comes together meanwhile, and a large turn costs less than many
#: small ones. Also, handler threads get on without fighting for the interpreter. A lone message
#: meets no pause.
BUSY_MESSAGES = 100
FEW_BYTES = 64 * 1024
PAUSE_SECONDS = 0.001
#: Nobody waits for what a sink publishes.
SINK_PAUSE_SECONDS = 0.003


class Replica:
    """Runs one replica: two connections, one loop, one runner.

    Attributes:
        was_commanded: whether a halt was broadcast: then nothing may start this replica again by
            itself.
    """

    def __init__(
        self,
        identity: Identity,
        settings: Settings,
        log: Logger,
        make_runner: Callable[[Connections], Runner],
        resources: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Prepare; nothing is connected before `run`.

        Args:
            identity: who this replica is.
            settings: how it connects and drains.
            log: where its state changes are told.
            make_runner: returns what it runs.
            resources: returns what is open while it runs.

        Raises:
            ConfigurationError: the health check's files cannot be written.
        """
        self._health = Health(settings.ready_file, settings.alive_file, log)
        self._health.check()
        self._is_sink = identity.output is None
        self.log = log
        self._network = Network(settings, log, self._turn, on_flushed=self._pause)
        self.loop = self._network.loop
        name = f"{identity.stage}/{identity.replica}"
        self.consuming = self._network.connection(f"{name} consumes")
        self.publishing = self._network.connection(f"{name} publishes")
        self._runner = make_runner(Connections(self.loop, self.consuming, self.publishing))
        self._control = ControlListener(
            self.consuming,
            identity.stage,
            identity.replica,
            log,
            on_command=self._obey,
            on_told=self._steer,
            on_failed=self.fail,
        )
        self._lock = NameLock(
            self.consuming,
            identity.stage,
            identity.replica,
            settings,
            log,
            on_first=self._let_in,
            on_failed=self.fail,
        )
        self._reporter = Reporter(
            (self.consuming, self.publishing),
            identity,
            self._runner,
            self._network.outage_log,
            log,
            on_failed=self.fail,
        )
        self._standstills = Standstills(
            settings.rabbitmq_heartbeat,
            self._runner.take_long,
            log,
        )
        for connection in (self.consuming, self.publishing):
            connection.users.append(self._standstills)
        self.consuming.users.append(self)
        self._is_paused: bool | None = None  # not known before the control queue is heard
        self._awaiting: dict[str, Command] = {}  # by reply_to: told when it has paused, or resumed
        self._runner.hold()
        self._watchdog: Watchdog | None = None
        self._resources = resources
        self._drain_timeout = settings.drain_timeout
        self._stopping: Generator[None, None, None] | None = None
        self._halting_since: float | None = None
        self._state_said = State.STARTING
        self.was_commanded = False
        self._kept_out: list[tuple[Connection, list[User]]] = []
        self._is_closing = False
        self._error: BaseException | None = None

    def run(self) -> None:
        """Run until halted. Raises what made it end, unless that was in order."""
        if threading.current_thread() is threading.main_thread():
            self._watchdog = Watchdog(
                self._drain_timeout + LAST_WORDS_SECONDS, self._tell_what_hangs, self._exit_code
            )
        try:
            with stop_signals(self._asked_to_stop):
                self._run_with_resources()
        except Exception as error:  # noqa: BLE001 - ours: what others do wrong comes by `fail`
            self._break(error)
        finally:
            self._health.remove()
            self.loop.close()
            if self._watchdog:
                self._watchdog.disarm()
        if self._error:
            raise self._error

    def _run_with_resources(self) -> None:
        """Open the stage's resources, then connect; close them when all is settled or given up.

        A signal is heard meanwhile, and the watchdog ends what hangs, as anywhere else.
        """
        try:
            with self._resources():
                self._run_loop()
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            self._runner.release()
            self._network.drop()
            if self._error is None:
                self._error = error
            elif self._error is not error:
                said = reason_of(error)
                self.log.error("failed on its way out", reason=said)  # noqa: TRY400 - in one line

    def _run_loop(self) -> None:
        try:
            self.loop.call(self._begin)
            self.loop.start()
        except Exception as error:  # noqa: BLE001 - ours: what others do wrong comes by `fail`
            self._break(error)

    def _begin(self) -> None:
        self._keep_out()
        self.consuming.connect()
        self.publishing.connect()
        self._tick()

    def _asked_to_stop(self, reason: str) -> None:
        """Halt, and have the process end in time even if the loop should hang; any thread."""
        if self._watchdog:
            self._watchdog.arm()
        self.loop.call(self.halt, reason)

    def _break(self, error: Exception) -> None:
        """Leave, after an error in the loop's thread, so that nobody waits for it any more."""
        self.log.error("failed, this is an error of the library's", exc_info=error)
        ours = RabbitError(f"failed by an error of the library's: {error!r}")
        ours.__cause__ = error
        self._error = self._error or ours
        if self._watchdog:
            self._watchdog.arm()
        self._runner.release()
        self._network.drop()

    def _tell_what_hangs(self, where: str) -> None:
        self.log.error(
            "gave up: DRAIN_TIMEOUT is over, and the process does not end",
            drain_timeout=self._drain_timeout,
            hangs=where,
        )

    def _exit_code(self) -> int:
        """Say with which code a process ends that hangs; see `Stage.main`."""
        return 0 if self.was_commanded else RabbitError.exit_code

    def _keep_out(self) -> None:
        """Let nobody on the connections do anything before it is certain that our name is ours."""
        let_in = self._lock.channel
        for connection in (self.consuming, self.publishing):
            others = [user for user in connection.users if user is not let_in]
            self._kept_out.append((connection, others))
            connection.users[:] = [user for user in connection.users if user is let_in]

    def _let_in(self) -> None:
        if self._stopping is not None:
            return
        for connection, users in self._kept_out:
            connection.users += users
            if connection.is_open:
                for user in users:
                    user.open()

    def open(self) -> None:
        """Have nothing to set up."""

    def lost(self) -> None:
        """Begin nothing new on the next connection before it is known whether to pause."""
        self._is_paused = None
        self._runner.hold()

    def _steer(self, is_paused: bool) -> None:  # noqa: FBT001 - as it is told
        """Pause, or go on."""
        if self._is_paused is is_paused:
            return
        self._is_paused = is_paused
        if is_paused:
            self._runner.pause(alone=self._control.is_paused_alone)
        else:
            self._runner.resume()

    def stop(self) -> None:
        """Halt; safe from any thread, and when it has ended already."""
        self.loop.call(self.halt, "stop() was called")

    def halt(self, reason: str) -> None:
        """Start the ordered stop, once."""
        if self._stopping is None:
            self.log.info("halting", reason=reason, in_flight=self._runner.in_flight)
            self._stopping = self._stop_in_order()
            self._halting_since = monotonic()
            self._network.begin(self._stopping)
            if self._watchdog:
                self._watchdog.arm()
            self.loop.call_later(self._drain_timeout, self._give_up)

    def fail(self, error: BaseException) -> None:
        """Halt because of an error, which `run` raises in the end."""
        self._error = self._error or error
        self.halt(reason_of(error))

    @property
    def seconds_left(self) -> float:
        """What is left of DRAIN_TIMEOUT."""
        if self._halting_since is None:
            return self._drain_timeout
        return max(0.0, self._drain_timeout - (monotonic() - self._halting_since))

    @property
    def state(self) -> State:
        """What this replica is doing."""
        if self._stopping is not None:
            return State.HALTING
        if self._is_paused and self._control.is_subscribed:
            return State.PAUSED if self._runner.is_paused else State.PAUSING
        if self._is_paused is None or not (self._runner.is_ready and self._control.is_subscribed):
            return State.STARTING
        if not all(publisher.is_open for publisher in self._runner.publishers):
            return State.STARTING
        is_blocked = any(publisher.is_blocked for publisher in self._runner.publishers)
        return State.BLOCKED if is_blocked else State.RUNNING

    @property
    def is_ready(self) -> bool:
        """Whether messages can be settled, or need not be."""
        if any(publisher.is_nacked for publisher in self._runner.publishers):
            return False
        return self.state in _READY

    def _stop_in_order(self) -> Generator[None, None, None]:
        """Stop in order: a step task, which each turn of the loop continues where it waits."""
        yield from self._runner.halt()  # finish what runs, requeue the rest, have the acks taken
        self._reporter.say_last(State.HALTED)
        yield from self._reporter.flushed()
        self.log.info("halted", handled=self._runner.handled, failed=self._runner.failed)
        yield from self._close()

    def _close(self) -> Iterator[None]:
        """Say goodbye to the broker; one that blocks us, or is gone, does not answer.

        The control queue goes too: who ends, in order or not, needs no command any more. A command
        that it has got before that is answered.
        """
        self._is_closing = True
        self.loop.call_later(LAST_WORDS_SECONDS, self.loop.stop)
        self._control.leave()
        while not self._control.is_heard:
            yield
        yield from self._reporter.flushed()
        self._control.remove(self._reporter.last_word if self._reporter.is_unsaid else None)
        while not self._control.is_removed:
            yield
        yield from self._network.disconnect(self._network.connections)
        self.loop.stop()

    def _give_up(self) -> None:
        """End although something is left: nothing is lost, some of it may come twice."""
        if self._is_closing:
            return
        if self._reporter.last_word is None:
            self._reporter.say_last(State.GAVE_UP)
        left = self._runner.let_go()
        error = DrainTimeoutError(f"gave up after DRAIN_TIMEOUT={self._drain_timeout:g} s: {left}")
        self._error = self._error or error
        if self._stopping:
            self._stopping.close()
        self._network.begin(self._close())

    def _turn(self) -> None:
        self._runner.turn()
        if self._runner.end:
            self._error = self._error or self._runner.end.error
            self.halt(self._runner.end.reason)
        if self._state_said in _ON_THE_WAY:
            self._tell_state()
        if self._awaiting:
            self._tell_awaiting()

    def _pause(self, moved: int) -> None:
        """Let more come together, when there is much to do and a turn has moved little."""
        if moved < FEW_BYTES and self._runner.unsettled >= BUSY_MESSAGES:
            sleep(SINK_PAUSE_SECONDS if self._is_sink else PAUSE_SECONDS)

    def _tick(self) -> None:
        self._standstills.look()
        self._runner.tick()
        self._tell_state()
        self.loop.call_later(TICK_SECONDS, self._tick)

    def _tell_state(self) -> None:
        state = self.state
        self._reporter.note(state)
        self._health.update(ready=self.is_ready)
        if state is not self._state_said and self._stopping is None:
            self._state_said = state
            self.log.info(_NEWS[state])

    def _obey(self, command: Command, reply_to: str | None) -> None:
        if command.command == "halt":
            self.was_commanded = True
            self.halt("halt was broadcast")
        if reply_to:
            state = self.state
            self._reporter.answer(command, reply_to, state)
            is_steered = command.command in {"pause", "resume"}
            if is_steered and state in _ON_THE_WAY and len(self._awaiting) < MOST_AWAITING:
                self._awaiting[reply_to] = command

    def _tell_awaiting(self) -> None:
        """Answer those again who wait for what they have asked for, once that is so."""
        state = self.state
        if state not in _ON_THE_WAY:
            awaiting, self._awaiting = self._awaiting, {}
            for reply_to, command in awaiting.items():
                self._reporter.answer(command, reply_to, state)
