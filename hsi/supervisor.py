"""The supervisor behind `hsi up`: brings everything up, keeps it up, takes it down in order.

Up: embedded servers (already running) → detector's weights → pipeline beside migration →
read models and API → ready file → demo, language model.
Down: demo and fetches → trial → pipeline → read models → API → language model → PostgreSQL →
Valkey.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

from domain.errors import HsiError
from hsi import language_model, plan, report
from hsi.control import ServiceControl
from hsi.follow import follow, open_log
from hsi.holder import instance_of
from hsi.keeper import BackOff, ChildWatch, Keeper
from hsi.language_model import EmbeddedModel
from hsi.plan import Places, Role, Wishes
from hsi.processes import Keeping, ServiceProcess
from hsi.screen import Screen
from inference.weights import detector_in
from runtime.children import how_it_ended, tail
from runtime.embedded import EmbeddedError, EmbeddedServers
from runtime.settings import Settings
from runtime.tasks import end
from streams.log import EventLog

PATIENCE_SECONDS: Final = 20.0
PROGRESS_SECONDS: Final = 5.0
API_STAYS: Final = "the API answers these requests, so it cannot stop itself: end `hsi up` instead"
FETCH_AGAIN_SECONDS: Final = 600.0


class Supervisor:
    """One run of `hsi up`."""

    def __init__(
        self,
        settings: Settings,
        places: Places,
        wishes: Wishes,
        servers: EmbeddedServers,
        screen: Screen,
    ) -> None:
        self._settings = settings
        self._places = places
        self._wishes = wishes
        self._servers = servers
        self._screen = screen
        self._model = language_model.choose(settings)
        self._env = plan.environment(places, wishes, self._services())
        self._watch = ChildWatch()
        self._once_keepers: dict[str, Keeper] = {}
        self._processes: dict[str, ServiceProcess] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        instance = instance_of(servers.folders.secret())
        self._control = ServiceControl(self._open_log, screen.say, instance)
        self._controls: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: BaseException | None = None
        self._is_up = False
        self._keeping = Keeping(
            watch=self._watch,
            say=screen.say,
            launch=self._launch,
            changed=self._changed,
            hurry=self._hurry,
            host=socket.gethostname(),
        )

    def _services(self) -> dict[str, str]:
        """Return where children find what is embedded."""
        found = {}
        if (redis_url := self._servers.redis_url) is not None:
            found["REDIS_URL"] = redis_url
            # The URL carries the password; one that was set for another server must not win.
            found["REDIS_PASSWORD"] = self._servers.folders.secret()
        if (database_url := self._servers.database_url) is not None:
            found["DATABASE_URL"] = database_url
        if self._model is not None:
            found |= self._model.environment
        return found

    async def _open_log(self) -> EventLog:
        return await open_log(self._env["REDIS_URL"], self._settings)

    # --- life -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Return after an orderly stop; raises what made it impossible to go on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(signal.SIGCHLD, self._watch.wake)
        self._places.ready.mkdir(mode=0o700, exist_ok=True)
        self._launch(self._bring_up())
        self._launch(self._keep_servers())
        try:
            await self._stop.wait()
        finally:
            await self._drain()
        if self._failure is not None:
            raise self._failure

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _launch(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside; whatever ends it with an error ends everything in order."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - the supervisor is where all errors end
                self._failure = self._failure or error
                self._stop.set()

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _drain(self) -> None:
        report.remove(self._wishes.ready_file)
        self._screen.say("stopping in order; Ctrl-C again hurries")
        await end(*self._controls)
        for name in ("demo", "fetch", "migrate", "trial", "pipeline", "project", "api", "llm"):
            if name in self._once_keepers:
                await self._once_keepers[name].stop(self._hurry)
            if name in self._processes:
                await self._processes[name].stop()
        await self._control.say_goodbye()
        await end(*self._tasks)
        await asyncio.to_thread(self._servers.stop)
        self._screen.say("stopped; everything taken in so far is kept")

    # --- up ---------------------------------------------------------------------------------

    async def _bring_up(self) -> None:
        following = asyncio.Event()
        url = self._env["REDIS_URL"]
        self._launch(follow(url, self._settings, self._screen, following))
        await following.wait()
        await self._control.open()
        self._controls.add(self._launch(self._control.tell_on()))
        await self._have_detector()
        places, env = self._places, self._env
        roles = plan.pipeline_roles(self._settings)
        others = plan.projecting_roles(self._settings)
        self._keep("pipeline", roles, lambda wanted: plan.pipeline(places, env, wanted))
        await self._once(plan.task("migrate", ("migrate",), places, env))
        self._keep("project", others, lambda wanted: plan.project(places, env, wanted))
        self._keep("api", ("api",), lambda _: plan.api(places, env), fixed=API_STAYS)
        if self._settings.trial_groups:
            self._keep("trial", ("trial",), lambda _: plan.trial(places, env))
        self._control.leave_out(self._names())
        self._controls.add(self._launch(self._control.follow()))
        await self._until_ready()
        self._is_up = True
        self._tell_ready()
        for line in report.places(self._settings, self._places, self._model):
            self._screen.say(line)
        if self._wishes.demo:
            self._keep("demo", ("demo",), lambda _: plan.demo(places, env))
        if self._model is not None:
            self._launch(self._keep_model(self._model))

    def _names(self) -> set[str]:
        """Return the services that run or will."""
        later = {"demo"} if self._wishes.demo else set()
        later |= {"llm"} if self._model is not None else set()
        return later.union(*(process.services for process in self._processes.values()))

    def _keep(
        self,
        name: str,
        services: tuple[str, ...],
        make: Callable[[tuple[str, ...]], Role],
        *,
        fixed: str = "",
    ) -> ServiceProcess:
        process = ServiceProcess(name, services, make, self._keeping, fixed=fixed)
        self._processes[name] = process
        self._control.take(process)
        process.start()
        self._control.tell(process)
        return process

    def _changed(self, process: ServiceProcess) -> None:
        """Hear that a process got ready, or ended."""
        if process.is_ready or process.keeper is None:
            self._tell_ready()
        self._control.tell(process)

    async def _once(self, role: Role) -> None:
        """Run a command to its end; raises HsiError with its last words when it fails."""
        keeper = Keeper(role, self._watch, self._screen.say, lambda: None)
        self._once_keepers[role.name] = keeper
        status = await keeper.run_once()
        if status != 0 and not self._stop.is_set():
            msg = (
                f"`hsi {' '.join(role.argv[4:])}` failed ({how_it_ended(status)}); end of "
                f"{role.log}:\n{tail(role.log)}"
            )
            raise HsiError(msg)

    async def _have_detector(self) -> None:
        models = self._settings.models_dir
        if self._settings.rtdetr_url is not None or detector_in(models) is not None:
            return
        self._screen.say(f"fetching the detector's weights into {models} (once)")
        wanted = ("--no-fallback",) if self._settings.production else ()
        arguments = ("models", "fetch", "detector", *wanted)
        await self._once(plan.task("fetch", arguments, self._places, self._env))

    async def _until_ready(self) -> None:
        waits = {
            name: asyncio.create_task(process.answered.wait())
            for name, process in self._processes.items()
        }
        try:
            while True:
                _, waiting = await asyncio.wait(waits.values(), timeout=PATIENCE_SECONDS)
                if not waiting:
                    return
                late = ", ".join(name for name, wait in waits.items() if wait in waiting)
                self._screen.say(f"still waiting for {late}; their logs: {self._places.logs}")
        finally:
            for wait in waits.values():
                wait.cancel()

    def _tell_ready(self) -> None:
        """Write the ready file anew: at the start, and whenever a process is another one."""
        if self._is_up and not self._stop.is_set():
            kept = [each.keeper for each in self._processes.values() if each.keeper is not None]
            pids = report.process_ids([*self._once_keepers.values(), *kept], self._servers)
            report.write(self._wishes.ready_file, self._places, pids)

    # --- the language model -----------------------------------------------------------------

    async def _keep_model(self, model: EmbeddedModel) -> None:
        while not model.is_there:
            self._screen.say(
                f"fetching {model.artefact.title} ({model.megabytes} MB) in the background; until "
                "it is here the rules score alone"
            )
            if not await self._fetch(model):
                self._screen.say(
                    f"{model.artefact.title} could not be fetched; the rules go on alone and it "
                    f"is tried again in {FETCH_AGAIN_SECONDS / 60:g} minutes (EMBEDDED_LLM=off "
                    f"ends this); end of {self._places.logs / 'fetch.log'}:\n"
                    f"{tail(self._places.logs / 'fetch.log', 6)}"
                )
                await asyncio.sleep(FETCH_AGAIN_SECONDS)
        places, env = self._places, self._env
        process = self._keep("llm", ("llm",), lambda _: language_model.role(model, places, env))
        await process.answered.wait()
        if process.is_ready:
            self._screen.say(f"{model.artefact.title} is loaded and explains events from now on")

    async def _fetch(self, model: EmbeddedModel) -> bool:
        role = plan.task("fetch", ("models", "fetch", "risk"), self._places, self._env)
        keeper = Keeper(role, self._watch, self._screen.say, lambda: None)
        self._once_keepers[role.name] = keeper
        fetching = asyncio.ensure_future(keeper.run_once())
        told = 0
        while not (await asyncio.wait({fetching}, timeout=PROGRESS_SECONDS))[0]:
            percent = model.fetched_percent(self._settings.models_dir)
            if percent >= told + 10:
                told = percent - percent % 10
                self._screen.say(f"{model.artefact.title}: {told} % fetched")
        return fetching.result() == 0

    # --- embedded servers -------------------------------------------------------------------

    async def _keep_servers(self) -> None:
        """Start an embedded server again when it died; the log and the tables are on disk."""
        backoffs = {name: BackOff() for name in self._servers.pids}
        loop = asyncio.get_running_loop()
        began = dict.fromkeys(backoffs, loop.time())
        while True:
            for name, status in self._servers.dead().items():
                delay = backoffs[name].next(loop.time() - began[name]) or 0.0
                log = self._servers.log_of(name)
                self._screen.say(
                    f"{name} ended with {how_it_ended(status)}; starting it again "
                    f"{f'in {delay:g} s' if delay else 'now'}; end of {log}:\n{tail(log, 5)}"
                )
                await asyncio.sleep(delay)
                began[name] = loop.time()
                await self._respawn(name)
            if not self._servers.dead():
                await self._watch.changed()

    async def _respawn(self, name: str) -> None:
        try:
            self._servers.respawn(name)
            await asyncio.to_thread(self._servers.wait_ready, name)
        except EmbeddedError as error:
            self._screen.say(str(error))
        else:
            self._tell_ready()
