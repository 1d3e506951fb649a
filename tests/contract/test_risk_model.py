"""What every RiskModel promises, asked of a fake server and of llama.cpp's own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec
import pytest
from support.llama import KEY, SHORT, fake_llama, free_port, llama_child
from support.risk_scenes import facts

from domain.errors import ServiceUnavailableError
from domain.prompt import REASONING_LIMIT, SUMMARY_LIMIT, parse_reply, signal_lines
from domain.risk_rules import judge
from inference.llama_wire import TOKENS_LIMIT
from inference.llm import Api, LlamaRiskModel, Timeouts
from inference.ports import RiskModel, RiskOpinion, RiskQuestion

TIMEOUTS = Timeouts(connect=5, read=150, health=5)


def question(name: str = "Front Door", *, dwell: float = 40) -> RiskQuestion:
    scene = facts("person", part="night", dwell=dwell, days=9)
    verdict = judge(scene, entry_point=True)
    lines = signal_lines(verdict.signals)
    return RiskQuestion(name, scene, verdict.score, verdict.floor, lines)


@pytest.fixture(scope="module")
def real_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama_child(tmp_path_factory.mktemp("llama")) as url:
        yield url


@dataclass(frozen=True)
class Server:
    url: str
    api: Api
    model: str

    def client(self, key: str | None = KEY) -> RiskModel:
        return LlamaRiskModel(self.url, api=self.api, api_key=key, timeouts=TIMEOUTS, prompt=SHORT)


@pytest.fixture(params=["fake-chat", "fake-completion", "real-chat", "real-completion"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    kind, _, api = request.param.partition("-")
    async with AsyncExitStack() as stack:
        if kind == "real":
            yield Server(request.getfixturevalue("real_url"), api, "smollm2-135m")
        else:
            fake = await stack.enter_async_context(fake_llama())
            yield Server(fake.url, api, "tiny.gguf")


def assert_whole(opinion: RiskOpinion, maker: str) -> None:
    assert 0 <= opinion.score <= 100
    assert 0 < len(opinion.summary) <= SUMMARY_LIMIT
    assert 0 < len(opinion.reasoning) <= REASONING_LIMIT
    assert parse_reply(opinion.raw_text).risk_score == opinion.score
    assert opinion.model == maker
    assert opinion.prompt_version == SHORT.version
    assert len(opinion.prompt_sha256) == 64
    assert opinion.tokens_in > 500
    assert 10 < opinion.tokens_out <= TOKENS_LIMIT
    assert opinion.seconds >= 0
    assert opinion.context_window == 4096
    assert opinion.tokens_cached is not None
    assert opinion.left_out == ()
    assert msgspec.json.encode(opinion.raw_text)


async def assert_answers_side_by_side(*servers: Server) -> None:
    models = [server.client() for server in servers]
    asked = [model.assess(question(dwell=31 + i)) for i, model in enumerate(models)]
    opinions = await asyncio.gather(*asked)
    for model, server, opinion in zip(models, servers, opinions, strict=True):
        assert_whole(opinion, server.model)
        await model.close()
    assert len({opinion.prompt_sha256 for opinion in opinions}) == len(servers)


async def test_the_fakes_opinions_are_whole_and_name_their_maker() -> None:
    async with fake_llama() as fake:
        apis: tuple[Api, ...] = ("chat", "completion", "chat")
        await assert_answers_side_by_side(*(Server(fake.url, api, "tiny.gguf") for api in apis))


@pytest.mark.slow
async def test_llama_cpps_opinions_are_whole_and_name_their_maker(real_url: str) -> None:
    # One by each endpoint: every further one would cost seconds for the prompt's prefix.
    apis: tuple[Api, ...] = ("chat", "completion")
    await assert_answers_side_by_side(*(Server(real_url, api, "smollm2-135m") for api in apis))


async def test_a_check_names_the_model(server: Server) -> None:
    model = server.client()
    assert await model.check() == server.model
    await model.close()


async def test_a_wrong_key_makes_the_stage_wait(server: Server) -> None:
    model = server.client("wrong")
    with pytest.raises(ServiceUnavailableError, match="API key is refused"):
        await model.check()
    with pytest.raises(ServiceUnavailableError, match="API key is refused"):
        await model.assess(question())
    await model.close()


async def test_a_cancelled_question_ends_at_once_and_harms_no_other(server: Server) -> None:
    model = server.client()
    task = asyncio.create_task(model.assess(question("Cancelled", dwell=77)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await model.check() == server.model
    await model.close()


@pytest.mark.parametrize("api", ["chat", "completion"])
async def test_a_server_that_is_away_makes_the_stage_wait(api: Api) -> None:
    model = LlamaRiskModel(f"http://127.0.0.1:{free_port()}", api=api, timeouts=TIMEOUTS)
    with pytest.raises(ServiceUnavailableError) as caught:
        await model.assess(question())
    assert caught.value.service == "risk_model"
    with pytest.raises(ServiceUnavailableError):
        await model.check()
    await model.close()
    await model.close()
