"""The model's context and slots: what does not fit is left out and said, never just refused."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from aiohttp import web
from support.llama import KEY, FakeLlama, fake_llama, llama_child
from support.risk_scenes import BANDS, assessed, facts

from domain.errors import PermanentError
from domain.prompt import signal_lines
from domain.risk import refine
from domain.risk_rules import judge
from inference.llama_wire import TOKENS_LIMIT
from inference.llm import LlamaRiskModel, Timeouts
from inference.ports import RiskQuestion

TIMEOUTS = Timeouts(connect=5, read=150, health=5)
SCENE = facts("person", part="night", dwell=40, days=9)
VERDICT = judge(SCENE, entry_point=True)
QUESTION = RiskQuestion(
    "Back Door", SCENE, VERDICT.score, VERDICT.floor, signal_lines(VERDICT.signals)
)


@pytest.fixture
async def fake() -> AsyncIterator[FakeLlama]:
    async with fake_llama() as server:
        yield server


@pytest.fixture
async def connect(fake: FakeLlama) -> AsyncIterator[Callable[[], LlamaRiskModel]]:
    models: list[LlamaRiskModel] = []

    def make() -> LlamaRiskModel:
        models.append(LlamaRiskModel(fake.url, api_key=KEY, timeouts=TIMEOUTS))
        return models[-1]

    yield make
    for model in models:
        await model.close()


Connect = Callable[[], LlamaRiskModel]


async def test_a_question_that_fits_is_asked_whole(fake: FakeLlama, connect: Connect) -> None:
    model = connect()
    opinions = [await model.assess(QUESTION) for _ in range(3)]
    assert {opinion.left_out for opinion in opinions} == {()}
    assert {opinion.context_window for opinion in opinions} == {4096}
    assert {opinion.tokens_cached for opinion in opinions} == {700}
    assert fake.counted == 1  # the static part, once


@pytest.mark.parametrize("window", [1400, 1200, 1000])
async def test_a_short_context_keeps_what_counts_most(
    fake: FakeLlama, connect: Connect, window: int
) -> None:
    fake.window = window
    opinion = await connect().assess(QUESTION)
    ((_, _, body),) = fake.requests
    text = "\n".join(f"<{turn['role']}> {turn['content']}" for turn in body["messages"])
    assert len(text) // 4 + TOKENS_LIMIT <= window
    assert "Rule score: 82, not below 70" in body["messages"][-1]["content"]
    assert opinion.left_out[0] == "example street"
    assert len(opinion.left_out) >= {1400: 2, 1200: 3, 1000: 5}[window]
    # It is recorded on the event.
    event = refine(assessed(SCENE, entry_point=True), opinion, BANDS)
    assert event.left_out == opinion.left_out
    assert event.context_window == window


async def test_a_server_that_counts_otherwise_is_asked_a_shorter_question(
    fake: FakeLlama, connect: Connect
) -> None:
    lengths = []

    async def strict(request: web.Request) -> web.StreamResponse | None:
        turns = (await request.json())["messages"]
        lengths.append(len(turns))
        if len(turns) <= 10:
            return None
        error = {"type": "exceed_context_size_error", "message": "too long", "n_ctx": 1500}
        return web.json_response({"error": {"code": 400, **error}}, status=400)

    fake.window = None
    fake.respond = strict  # type: ignore[assignment]  # None lets the fake answer itself
    opinion = await connect().assess(QUESTION)
    assert lengths[0] == 14
    assert lengths[-1] <= 10
    assert opinion.context_window == 1500
    assert len(opinion.left_out) >= 2


async def test_a_server_that_tells_nothing_is_asked_all(fake: FakeLlama, connect: Connect) -> None:
    fake.window = None
    opinion = await connect().assess(QUESTION)
    assert (opinion.left_out, opinion.context_window) == ((), None)
    assert fake.counted == 0


async def test_a_context_too_short_for_anything_is_told(fake: FakeLlama, connect: Connect) -> None:
    fake.window = 512
    with pytest.raises(PermanentError, match=r"512 tokens of context.*-c"):
        await connect().assess(QUESTION)
    assert fake.requests == []


async def test_any_other_bad_request_is_not_asked_again(fake: FakeLlama, connect: Connect) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        error = {"code": 400, "type": "invalid_request_error", "message": "bad grammar"}
        return web.json_response({"error": error}, status=400)

    fake.respond = refuse
    with pytest.raises(PermanentError, match="bad grammar"):
        await connect().assess(QUESTION)
    assert len(fake.requests) == 1


async def test_a_context_that_fills_up_is_warned_of_once(
    fake: FakeLlama, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    fake.window = 2200  # the fake says that a question takes 900 tokens
    model = connect()
    with caplog.at_level(logging.WARNING, "inference.llm"):
        await model.assess(QUESTION)
        assert caplog.messages == []
        fake.tokens_in = 1900
        for _ in range(2):
            await model.assess(QUESTION)
    (message,) = caplog.messages
    assert "1900 of the language model's 2200 tokens" in message


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_no_more_is_asked_at_once_than_there_are_slots(
    fake: FakeLlama, connect: Connect, slots: int
) -> None:
    fake.slots = slots
    full, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_: web.Request) -> None:
        if fake.working == slots:
            full.set()
        await go_on.wait()

    fake.respond = hold  # type: ignore[assignment]  # None lets the fake answer itself
    model = connect()
    asked = [asyncio.create_task(model.assess(QUESTION)) for _ in range(5)]
    async with asyncio.timeout(10):
        await full.wait()
    go_on.set()
    await asyncio.gather(*asked)
    assert fake.most_at_once == slots


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """llama.cpp's own server with 1,100 tokens of context a question."""
    with llama_child(tmp_path_factory.mktemp("small"), "--context", "2200") as url:
        yield url


@pytest.mark.slow
async def test_llama_cpp_answers_the_longest_question_that_fits(small_server: str) -> None:
    model = LlamaRiskModel(small_server, api_key=KEY, timeouts=TIMEOUTS)
    opinion = await model.assess(QUESTION)
    await model.close()
    assert opinion.context_window is not None
    assert opinion.tokens_in + TOKENS_LIMIT <= opinion.context_window <= 1280
    assert opinion.left_out[0] == "example street"
    # Not by more than was needed: the next longer one would have been too long.
    assert opinion.tokens_in + TOKENS_LIMIT > opinion.context_window - 250
