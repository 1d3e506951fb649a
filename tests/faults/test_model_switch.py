"""Switching versions on a real Triton server: nobody notices a good one, nobody gets a bad one."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from support.detect_service import using
from support.instant_model import MODEL, lay_out, made_from
from support.triton import TritonServer, installed

from inference.model_control import ModelControl, ModelControlError, controlling
from inference.model_switch import Golden, SwitchError, Target, last_switch, switch
from inference.ports import Picture
from inference.triton import TritonDetector
from inference.version_policy import CONFIG, pinned_version

GOOD, ALSO_GOOD, BLIND, BROKEN = 1, 2, 3, 4


def grey(name: str = "grey.png") -> Picture:
    return Picture(np.full((640, 640, 3), 127, np.uint8), 640, 640, b"", name)


GOLDEN = Golden(grey(), {"dog": 0.5})


@pytest.fixture(scope="module")
def server() -> Iterator[TritonServer]:
    folder = Path(tempfile.mkdtemp(prefix="hsi-triton-"))
    scores = {GOOD: "0.6", ALSO_GOOD: "0.7", BLIND: "0.1", BROKEN: "no number"}
    model = lay_out(folder / "models", scores)
    made_from(model, ALSO_GOOD, "second")
    options = ["--model-control-mode=explicit", f"--load-model={MODEL}"]
    server = TritonServer(installed(), folder, folder / "models", options)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def target(server: TritonServer) -> AsyncIterator[Target]:
    """The model as it was laid out: version GOOD serves."""
    target = Target(server.url, MODEL, server.repository / MODEL)
    yield target
    async with controlling(server.url) as control:
        await switch(control, target, GOOD, GOLDEN)


@pytest.fixture
async def control(server: TritonServer) -> AsyncIterator[ModelControl]:
    async with controlling(server.url) as control:
        yield control


@dataclass
class Cameras:
    """Callers that never stop asking."""

    versions: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def asking(self, detector: TritonDetector, count: int = 4) -> AsyncIterator[None]:
        """Ask from `count` cameras; an error in any of them is the test's."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(detector)) for _ in range(count)]
            yield
            for task in tasks:
                task.cancel()

    async def _ask(self, detector: TritonDetector) -> None:
        while True:
            for answer in await detector.detect([grey(), grey()]):
                version, _, weights = answer.identity.version.partition(":")
                assert weights == ("second" if version == str(ALSO_GOOD) else "instant")
                self.versions[version] += 1
                assert answer.boxes[0].label == "dog"

    async def answered(self, version: int, pictures: int) -> None:
        wanted = self.versions[str(version)] + pictures
        async with asyncio.timeout(20):
            while self.versions[str(version)] < wanted:  # noqa: ASYNC110 - a counter
                await asyncio.sleep(0.01)


async def test_no_picture_fails_while_versions_are_switched(
    target: Target, control: ModelControl
) -> None:
    cameras = Cameras()
    async with using(TritonDetector(target.url)) as detector, cameras.asking(detector):
        await cameras.answered(GOOD, 20)
        for version in (ALSO_GOOD, GOOD):
            assert "dog 0." in await switch(control, target, version, GOLDEN)
            await cameras.answered(version, 20)
            assert pinned_version(target.folder / CONFIG) == version
    assert set(cameras.versions) == {str(GOOD), str(ALSO_GOOD)}
    assert cameras.versions.total() > 200
    done = last_switch(target.folder)
    assert done is not None
    assert (done.before, done.after) == (ALSO_GOOD, GOOD)


@pytest.mark.parametrize(
    ("version", "why"),
    [
        (BLIND, "does not see dog in grey.png as it must: dog 0.10"),
        (BROKEN, "could not convert string to float"),
    ],
)
async def test_a_version_that_is_not_good_never_serves(
    target: Target, control: ModelControl, version: int, why: str
) -> None:
    before = (target.folder / CONFIG).read_text()
    left_by_a_killed_switch = target.folder.with_name(f"{MODEL}_candidate")
    left_by_a_killed_switch.mkdir()
    cameras = Cameras()
    async with using(TritonDetector(target.url)) as detector, cameras.asking(detector):
        await cameras.answered(GOOD, 4)
        with pytest.raises(SwitchError, match=why):
            await switch(control, target, version, GOLDEN)
        await cameras.answered(GOOD, 20)
    assert set(cameras.versions) == {str(GOOD)}
    assert (target.folder / CONFIG).read_text() == before
    assert [path.name for path in target.folder.parent.iterdir()] == [MODEL]
    assert await control.ready(MODEL) == (str(GOOD),)


async def test_a_version_that_is_not_there_is_refused_with_those_that_are(
    target: Target, control: ModelControl
) -> None:
    with pytest.raises(SwitchError, match="has no version 9; it has 1, 2, 3, 4"):
        await switch(control, target, 9, GOLDEN)


async def test_what_turns_bad_once_it_serves_is_taken_back(
    target: Target, control: ModelControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The candidate was good, what serves is not: a golden picture judged a second time."""
    loading = control.load

    async def spoiling(model: str) -> tuple[str, ...]:
        if model == MODEL and pinned_version(target.folder / CONFIG) == ALSO_GOOD:
            (target.folder / str(ALSO_GOOD) / "score.txt").write_text("0.2")
        return await loading(model)

    monkeypatch.setattr(control, "load", spoiling)
    try:
        with pytest.raises(SwitchError, match=r"does not see dog.*back on version 1:instant saw"):
            await switch(control, target, ALSO_GOOD, GOLDEN)
    finally:
        (target.folder / str(ALSO_GOOD) / "score.txt").write_text("0.7")
    assert pinned_version(target.folder / CONFIG) == GOOD
    assert await control.ready(MODEL) == (str(GOOD),)


async def test_two_switches_at_once_do_not_mix(target: Target, control: ModelControl) -> None:
    answers = await asyncio.gather(
        switch(control, target, BLIND, GOLDEN),
        switch(control, target, BLIND, GOLDEN),
        return_exceptions=True,
    )
    assert "does not see dog" in str(answers[0])
    assert "another switch or installation is under way" in str(answers[1])


async def test_a_server_that_reads_another_folder_is_noticed(
    server: TritonServer, control: ModelControl, tmp_path: Path
) -> None:
    lay_out(tmp_path, {GOOD: "0.6", ALSO_GOOD: "0.7"})
    elsewhere = Target(server.url, MODEL, tmp_path / MODEL)
    with pytest.raises(SwitchError, match="nothing was switched"):
        await switch(control, elsewhere, ALSO_GOOD, GOLDEN)
    assert os.listdir(tmp_path) == [MODEL]


async def test_a_server_that_does_not_take_orders_says_how_to_make_it(
    triton_server: TritonServer,
) -> None:
    async with controlling(triton_server.url) as control:
        assert (await control.server()).startswith("triton 2.")
        with pytest.raises(ModelControlError, match="--model-control-mode=explicit"):
            await control.load("rtdetrv2")


async def test_an_unloaded_model_is_gone_and_comes_back(
    target: Target, control: ModelControl
) -> None:
    await control.unload(MODEL)
    assert await control.ready(MODEL) == ()
    assert await control.load(MODEL) == (str(GOOD),)
    with pytest.raises(ModelControlError, match="nothing_like_it"):
        await control.load("nothing_like_it")
