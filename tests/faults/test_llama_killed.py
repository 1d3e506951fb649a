"""kill -9 of llama.cpp's own server under load: every event is refined in the end, once."""

import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from support.llama import KEY, SHORT, child_command, free_port, smollm2_gguf, wait_until_healthy
from support.logs import Stage, all_of, new, opened, quick, until
from support.risk_scenes import BANDS, Cameras, assessed, facts

from agents.refine import Lane, Refine
from agents.services import ServiceWatch
from agents.turns import Turns
from domain.events import AssessmentRefined, EntryParked, RiskAssessed
from inference.llm import LlamaRiskModel, Timeouts
from streams.channel import ChannelOptions, each

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]
__all__ = ["quick"]

EVENTS = 2


class Server:
    """llama.cpp's server at one port, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "llama.log"
        self._key = folder / "key"
        self._key.write_text(f"{KEY}\n")
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = child_command(smollm2_gguf(), self.port, "--api-key-file", str(self._key))
        with self._log.open("ab") as output:
            self._child = subprocess.Popen(command, stdout=output, stderr=output)

    def wait(self) -> None:
        assert self._child is not None
        wait_until_healthy(self.url, self._child, self._log)

    def kill(self) -> None:
        assert self._child is not None
        os.kill(self._child.pid, signal.SIGKILL)
        self._child.wait(10)

    def is_working(self) -> bool:
        request = urllib.request.Request(
            f"{self.url}/slots", headers={"Authorization": f"Bearer {KEY}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return any(slot["is_processing"] for slot in msgspec.json.decode(answer.read()))


@contextmanager
def server_in(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def event(number: int) -> RiskAssessed:
    scene = facts("person", dwell=20 + number)
    name = f"evt_{number}"
    return msgspec.structs.replace(assessed(scene), event_id=name, batch_id=f"batch_{number}")


async def test_what_was_asked_when_the_server_was_killed_is_asked_again(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.gate.BACKOFF_CAP_SECONDS", 1.0)
    timeouts = Timeouts(connect=5, read=150, health=10)
    with server_in(tmp_path) as server:
        async with opened(valkey_url) as log:
            model = LlamaRiskModel(server.url, api_key=KEY, timeouts=timeouts, prompt=SHORT)
            watch = ServiceWatch(log, "risk_model", model.check)
            options = ChannelOptions(run_size=1, concurrency=2, on_state=watch.gate_of("refine"))
            refine = Refine(model, Cameras(), BANDS, log, Lane(first=False, turns=Turns(2)))
            async with Stage(log, "refine", "one", options, handler=each(refine)):
                # given questions in hand of the server
                await log.append_all([new(event(n), f"assessed {n}") for n in range(EVENTS)])
                await until(server.is_working, seconds=60)
                # when it is killed
                server.kill()
                # then the stage pauses …
                await until(lambda: watch._paused == {"refine"}, seconds=30)
                # … and goes on when it is back: loading it is waited for, never held against them
                server.start()

                async def all_refined() -> bool:
                    return len(await refinements()) >= EVENTS

                async def refinements() -> list[AssessmentRefined]:
                    found = [each.event for each in await all_of(log, "assessments")]
                    return [one for one in found if isinstance(one, AssessmentRefined)]

                await until(all_refined, seconds=150)
                await until(lambda: not watch._paused, seconds=10)
            said = await refinements()
            assert sorted(one.event_id for one in said) == [f"evt_{n}" for n in range(EVENTS)]
            assert {one.model for one in said} == {"smollm2-135m"}
            parked = [each.event for each in await all_of(log, "parked")]
            assert not [one for one in parked if isinstance(one, EntryParked)]
            (backlog,) = [each for each in await log.backlog() if each.group == "refine"]
            assert backlog.left == 0
            await model.close()
