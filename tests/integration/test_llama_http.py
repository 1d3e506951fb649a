"""LlamaRiskModel against a server that misbehaves in every way we know of."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from support.llama import GOOD_REPLY, KEY, FakeLlama, fake_llama
from support.risk_scenes import facts

from domain.errors import HsiError, PermanentError, ServiceUnavailableError, TransientError
from domain.prompt import REPLY_SCHEMA, UnusableReplyError
from inference.llama_http import BODY_LIMIT
from inference.llama_wire import TOKENS_LIMIT
from inference.llm import Api, LlamaRiskModel, Timeouts
from inference.ports import RiskQuestion

TIMEOUTS = Timeouts(connect=0.3, read=0.3, health=0.3)
QUESTION = RiskQuestion("Front Door", facts("cat"), 3, 0, ("Sign: Only animals were seen. (+3)",))
Connect = Callable[[Api], LlamaRiskModel]


@pytest.fixture
async def fake() -> AsyncIterator[FakeLlama]:
    async with fake_llama() as server:
        yield server


@pytest.fixture
async def connect(fake: FakeLlama) -> AsyncIterator[Connect]:
    models: list[LlamaRiskModel] = []

    def make(api: Api = "chat") -> LlamaRiskModel:
        models.append(LlamaRiskModel(f"{fake.url}/", api=api, api_key=KEY, timeouts=TIMEOUTS))
        return models[-1]

    yield make
    for model in models:
        await model.close()


def status(code: int, body: str = "words", **headers: str) -> Callable[[Any], Awaitable[Any]]:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(status=code, text=body, headers=headers)

    return respond


async def test_the_chat_request_is_constrained_and_bounded(
    fake: FakeLlama, connect: Connect
) -> None:
    await connect("chat").assess(QUESTION)
    ((path, headers, body),) = fake.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body["messages"][0]["role"] == "system"
    assert body["messages"][-1]["content"].startswith('Camera: "Front Door"\n')
    assert body["response_format"]["json_schema"]["schema"] == REPLY_SCHEMA
    assert body["max_tokens"] == TOKENS_LIMIT >= 300
    assert 0 <= body["temperature"] <= 0.2
    assert body["cache_prompt"] is True


async def test_the_completion_request_uses_nemotrons_template(
    fake: FakeLlama, connect: Connect
) -> None:
    opinion = await connect("completion").assess(QUESTION)
    ((path, _, body),) = fake.requests
    assert path == "/completion"
    assert body["prompt"].startswith("<extra_id_0>System\n")
    assert body["prompt"].endswith("<extra_id_1>Assistant\n")
    assert body["json_schema"] == REPLY_SCHEMA
    assert body["n_predict"] == TOKENS_LIMIT
    # This reply names no model, so the server's own word counts.
    assert opinion.model == "tiny.gguf"


async def test_the_static_part_of_the_prompt_comes_first(
    fake: FakeLlama, connect: Connect
) -> None:
    model = connect("completion")
    await model.assess(QUESTION)
    await model.assess(replace(QUESTION, camera_name="Back Door"))
    one, other = (body["prompt"] for _, _, body in fake.requests)
    head = one.rpartition("<extra_id_1>User")[0]
    assert len(head) > 3_000
    assert other.startswith(head)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (400, PermanentError, "rejects the request"),
        (413, PermanentError, "rejects the request"),
        (401, ServiceUnavailableError, "API key"),
        (403, ServiceUnavailableError, "API key"),
        (404, ServiceUnavailableError, "check NEMOTRON_URL"),
        (405, ServiceUnavailableError, "check NEMOTRON_URL"),
        (307, ServiceUnavailableError, "check NEMOTRON_URL"),
        (502, ServiceUnavailableError, "away"),
        (503, ServiceUnavailableError, "not ready"),
        (504, ServiceUnavailableError, "away"),
        (429, TransientError, "HTTP 429"),
        (500, TransientError, "HTTP 500"),
        (501, TransientError, "HTTP 501"),
    ],
)
async def test_a_status_says_what_to_do(
    fake: FakeLlama, connect: Connect, code: int, error: type[HsiError], words: str
) -> None:
    fake.respond = status(code, "the server's\n words", Location="/elsewhere")
    with pytest.raises(error, match=words) as caught:
        await connect("chat").assess(QUESTION)
    away = isinstance(caught.value, ServiceUnavailableError)
    assert away is issubclass(error, ServiceUnavailableError)
    assert fake.url in str(caught.value)


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("999999", 600), ("soon", None), ("-1", None), ("", None)]
)
async def test_a_server_may_say_when_to_come_back(
    fake: FakeLlama, connect: Connect, header: str, seconds: float | None
) -> None:
    fake.respond = status(503, **{"Retry-After": header})
    with pytest.raises(ServiceUnavailableError) as caught:
        await connect("chat").assess(QUESTION)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("api", ["chat", "completion"])
async def test_a_reply_that_was_cut_off_is_never_taken(
    fake: FakeLlama, connect: Connect, api: Api
) -> None:
    # Even one that happens to be whole JSON: the limit ended it.
    fake.finish = "length"
    with pytest.raises(UnusableReplyError) as caught:
        await connect(api).assess(QUESTION)
    assert caught.value.reason == "truncated"
    assert caught.value.answer == GOOD_REPLY


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ('{"risk_score": 1', "truncated"),
        ("The risk is low.", "not_json"),
        ('{"risk_score": 900, "summary": "a", "reasoning": "b"}', "invalid"),
        ("", "empty"),
    ],
)
async def test_what_the_model_said_instead_is_kept(
    fake: FakeLlama, connect: Connect, reply: str, reason: str
) -> None:
    fake.reply = reply
    with pytest.raises(UnusableReplyError) as caught:
        await connect("chat").assess(QUESTION)
    assert (caught.value.reason, caught.value.answer) == (reason, reply)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<html>hello</html>", "wrong_envelope"),
        ('{"choices": "none"}', "wrong_envelope"),
        ("[" * 20_000, "wrong_envelope"),
        ("\ufeff{}", "wrong_envelope"),
        ('{"choices": []}', "empty"),
        ('{"choices": [{"message": {"content": null}}]}', "empty"),
        ("x" * (BODY_LIMIT + 1), "too_long"),
    ],
)
async def test_a_body_that_is_no_answer_is_refused(
    fake: FakeLlama, connect: Connect, body: str, reason: str
) -> None:
    fake.respond = status(200, body)
    with pytest.raises(UnusableReplyError) as caught:
        await connect("chat").assess(QUESTION)
    assert caught.value.reason == reason
    assert len(caught.value.answer) <= 2_000


async def test_an_endless_body_is_not_kept_in_memory(fake: FakeLlama, connect: Connect) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65_536)

    fake.respond = endless
    with pytest.raises(UnusableReplyError, match="more than"):
        await connect("chat").assess(QUESTION)


async def test_a_server_that_never_answers_costs_one_attempt(
    fake: FakeLlama, connect: Connect
) -> None:
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    fake.respond = silent
    with pytest.raises(TransientError, match="NEMOTRON_READ_TIMEOUT") as caught:
        await connect("chat").assess(QUESTION)
    assert type(caught.value) is TransientError


async def test_a_connection_cut_in_the_middle_makes_the_stage_wait(
    fake: FakeLlama, connect: Connect
) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"choices"')
        assert request.transport is not None
        request.transport.abort()
        return response

    fake.respond = cut
    with pytest.raises(ServiceUnavailableError):
        await connect("chat").assess(QUESTION)


async def test_a_name_that_does_not_resolve_makes_the_stage_wait() -> None:
    model = LlamaRiskModel("http://llm.invalid:8091", timeouts=TIMEOUTS)
    with pytest.raises(ServiceUnavailableError, match=r"llm\.invalid"):
        await model.check()
    await model.close()


async def test_the_key_stands_in_no_message(fake: FakeLlama, connect: Connect) -> None:
    fake.respond = status(400)
    with pytest.raises(PermanentError) as caught:
        await connect("chat").assess(QUESTION)
    assert KEY not in str(caught.value)
