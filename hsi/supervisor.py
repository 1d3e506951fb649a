"""The supervisor behind `hsi up`: brings everything up, keeps it up, takes it down in order.

Up: embedded servers (already running) → detector's weights → pipeline beside migration →
read models and API → ready file → demo, language model.
Down: demo and fetches → pipeline → read models → API → language model → PostgreSQL → Valkey.
"""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final

from domain.errors import HsiError
from hsi import language_model, plan, report
from hsi.follow import follow
from hsi.keeper import BackOff, ChildWatch, Keeper
from hsi.language_model import EmbeddedModel
from hsi.plan import Places, Role, Wishes
from hsi.screen import Screen
from inference.weights import detector_in
from runtime.children import how_it_ended, tail
from runtime.embedded import EmbeddedError, EmbeddedServers
from runtime.settings import Settings

PATIENCE_SECONDS: Final = 20.0
PROGRESS_SECONDS: Final = 5.0
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
        self._keepers: dict[str, Keeper] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: BaseException | None = None
        self._is_up = False

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

    def _launch(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside; whatever ends it with an error ends everything in order."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - the supervisor is where all errors end
                self._failure = self._failure or error
                self._stop.set()

        self._tasks.add(asyncio.create_task(guarded()))

    async def _drain(self) -> None:
        report.remove(self._wishes.ready_file)
        self._screen.say("stopping in order; Ctrl-C again hurries")
        for name in ("demo", "fetch", "migrate", "pipeline", "project", "api", "llm"):
            if name in self._keepers:
                await self._keepers[name].stop(self._hurry)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._servers.stop)
        self._screen.say("stopped; everything taken in so far is kept")

    # --- up ---------------------------------------------------------------------------------

    async def _bring_up(self) -> None:
        following = asyncio.Event()
        url = self._env["REDIS_URL"]
        self._launch(follow(url, self._settings, self._screen, following))
        await following.wait()
        await self._have_detector()
        enriching = bool(self._settings.enrichment_urls)
        trying = bool(self._settings.trial_groups)
        role = plan.pipeline(self._places, self._env, enriching=enriching, trying=trying)
        self._keep(role)
        await self._once(plan.task("migrate", ("migrate",), self._places, self._env))
        self._keep(plan.project(self._places, self._env))
        self._keep(plan.api(self._places, self._env))
        await self._until_ready()
        self._is_up = True
        self._tell_ready()
        for line in report.places(self._settings, self._places, self._model):
            self._screen.say(line)
        if self._wishes.demo:
            self._keep(plan.demo(self._places, self._env))
        if self._model is not None:
            self._launch(self._keep_model(self._model))

    def _keep(self, role: Role) -> Keeper:
        keeper = Keeper(role, self._watch, self._screen.say, self._tell_ready)
        self._keepers[role.name] = keeper

        async def keep() -> None:
            await keeper.keep()

        self._launch(keep())
        return keeper

    async def _once(self, role: Role) -> None:
        """Run a command to its end; raises HsiError with its last words when it fails."""
        keeper = Keeper(role, self._watch, self._screen.say, lambda: None)
        self._keepers[role.name] = keeper
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
            name: asyncio.create_task(self._keepers[name].ready.wait())
            for name in ("pipeline", "project", "api")
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
            pids = report.process_ids(self._keepers.values(), self._servers)
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
        keeper = self._keep(language_model.role(model, self._places, self._env))
        await keeper.ready.wait()
        self._screen.say(f"{model.artefact.title} is loaded and explains events from now on")

    async def _fetch(self, model: EmbeddedModel) -> bool:
        role = plan.task("fetch", ("models", "fetch", "risk"), self._places, self._env)
        keeper = Keeper(role, self._watch, self._screen.say, lambda: None)
        self._keepers[role.name] = keeper
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
                delay = backoffs[name].next(loop.time() - began[name])
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
