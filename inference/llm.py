"""RiskModel over llama.cpp's HTTP server: schema constrained, bounded, and validated all the same.

An invalid schema is answered 200 without any constraint and a short token limit cuts JSON off, so
the server is never trusted to have kept to the schema. What does not fit the model's context is
left out by priority and said (domain/prompt_cuts.py); no more is asked at once than has slots.
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final, Literal

from domain.errors import PermanentError
from domain.prompt import Prompt, UnusableReplyError, messages_sha256, parse_reply
from domain.prompt_cuts import Asked, whole_to_shortest
from inference.llama_context import ContextGuard
from inference.llama_http import ContextExceededError, LlamaHttp, NoEndpointError, Timeouts
from inference.llama_wire import (
    TOKENS_LIMIT,
    Answer,
    ChatReply,
    CompletionReply,
    Models,
    Props,
    chat_request,
    completion_request,
    decoded,
    short_name,
)
from inference.ports import RiskOpinion, RiskQuestion
from inference.prompts import load_prompt

__all__ = ["Api", "LlamaRiskModel", "Timeouts"]

logger = logging.getLogger(__name__)

Api = Literal["chat", "completion"]

FULL_AT: Final = 0.80
"""Share of the context from which a question is worth a warning."""


class LlamaRiskModel:
    """Asks one llama.cpp server, by chat (its own template) or by plain completion."""

    def __init__(
        self,
        url: str,
        *,
        api: Api = "chat",
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        prompt: Prompt | None = None,
        ca_path: Path | None = None,
    ) -> None:
        self._http = LlamaHttp(url, api_key, timeouts or Timeouts(), ca_path)
        self._api = api
        self._prompt = prompt or load_prompt()
        self._guard = ContextGuard(self._http, chat=api == "chat")
        self._slots = _Slots()
        self._model = ""
        self._warned = False

    async def assess(self, question: RiskQuestion) -> RiskOpinion:
        """Return the model's validated opinion; UnusableReplyError keeps what it said instead."""
        if not self._model:
            await self.check()
        async with self._slots.take():
            started = time.perf_counter()
            asked, answer = await self._ask_what_fits(question)
            seconds = time.perf_counter() - started
        if not answer.complete:
            message = f"it was cut off after {answer.tokens_out} tokens (limit {TOKENS_LIMIT})"
            raise UnusableReplyError("truncated", message, answer.text)
        reply = parse_reply(answer.text)
        self._warn_when_full(answer.tokens_in)
        return RiskOpinion(
            score=reply.risk_score,
            summary=reply.summary,
            reasoning=reply.reasoning,
            model=short_name(answer.model) or self._model,
            prompt_version=self._prompt.version,
            prompt_sha256=messages_sha256(asked.messages),
            raw_text=answer.text,
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            seconds=round(seconds, 3),
            tokens_cached=answer.tokens_cached,
            context_window=self._guard.window,
            left_out=asked.left_out,
        )

    async def check(self) -> str:
        """Return the model's name once the server has loaded it."""
        await self._http.look("/health")
        props = await self._props()
        try:
            models = decoded(await self._http.look("/v1/models"), Models)
            name = models.data[0].id if models.data else ""
        except (UnusableReplyError, NoEndpointError):
            name = ""
        model = short_name(name or props.model_path) or "unnamed model"
        self._slots.resize(props.total_slots)
        self._guard.learn(model, props.default_generation_settings.n_ctx)
        self._model = model
        return model

    async def close(self) -> None:
        """Release connections."""
        await self._http.close()

    async def _props(self) -> Props:
        """Return what the server tells of itself; other servers than llama.cpp's tell nothing."""
        try:
            return decoded(await self._http.look("/props"), Props)
        except (NoEndpointError, UnusableReplyError, PermanentError):
            return Props()

    async def _ask_what_fits(self, question: RiskQuestion) -> tuple[Asked, Answer]:
        for asked in whole_to_shortest(self._prompt, question):
            if not await self._guard.fits(asked):
                continue
            try:
                return asked, await self._ask(asked)
            except ContextExceededError as error:
                # It counts otherwise than we do; the same question would never work.
                self._guard.learn(self._model, error.window)
        raise PermanentError(
            f"the language model at {self._http.url} has {self._guard.window} tokens of context:"
            f" too few for the shortest question and {TOKENS_LIMIT} tokens of answer;"
            " start it with a larger context (-c)"
        )

    async def _ask(self, asked: Asked) -> Answer:
        if self._api == "chat":
            body = await self._http.ask("/v1/chat/completions", chat_request(asked.messages))
            return decoded(body, ChatReply).answer()
        body = await self._http.ask("/completion", completion_request(asked.messages))
        return decoded(body, CompletionReply).answer()

    def _warn_when_full(self, tokens: int) -> None:
        window = self._guard.window
        full = window is not None and tokens >= FULL_AT * window
        if full and not self._warned:
            logger.warning(
                "the question took %d of the language model's %d tokens of context; beyond that"
                " worked examples and facts are left out: start it with a larger context (-c)",
                tokens,
                window,
            )
        self._warned = full


class _Slots:
    """Lets as many questions through at once as the server works on side by side.

    More would only wait inside the server, with their time limit running.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._free = asyncio.Semaphore(1)

    def resize(self, number: int | None) -> None:
        """Take over the number of slots; those who hold one from before finish undisturbed."""
        if number != self._number:
            self._number = number
            self._free = asyncio.Semaphore(number or _UNTOLD_SLOTS)

    def take(self) -> asyncio.Semaphore:
        """Return the gate to hold while asking."""
        return self._free


_UNTOLD_SLOTS: Final = 64
"""A server that does not tell its slots queues by itself."""
