"""ContextGuard: whether a conversation and its answer fit the model's context.

Counting is the server's: its template and its tokeniser. A text never has more tokens than bytes,
so the static prefix is counted once and most questions need no further call.
"""

from collections.abc import Sequence
from typing import Final

from domain.errors import PermanentError
from domain.prompt import Message, UnusableReplyError, nemotron_prompt
from domain.prompt_cuts import Asked
from inference.llama_http import LlamaHttp, NoEndpointError
from inference.llama_wire import (
    TOKENS_LIMIT,
    Template,
    Tokens,
    decoded,
    template_request,
    tokenize_request,
)

WINDOW_LIMIT: Final = 131_072
"""Tokens of context that are used at most, however many the server has."""
TURN_TOKENS: Final = 16
"""More than any template adds around one turn."""
BYTES_A_TOKEN: Final = 3
"""English prose has more; used where the server cannot count."""


class ContextGuard:
    """Knows one server's context window."""

    def __init__(self, http: LlamaHttp, *, chat: bool) -> None:
        self._http = http
        self._chat = chat
        self._model = ""
        self._counted: dict[tuple[Message, ...], int] = {}
        self.window: int | None = None
        """Tokens of context one question has; None while the server has not told."""

    def learn(self, model: str, window: int | None) -> None:
        """Take over what the server said; another model counts anew."""
        if model != self._model:
            self._model = model
            self._counted.clear()
        self.window = min(window, WINDOW_LIMIT) if window else None

    async def fits(self, asked: Asked) -> bool:
        """Tell whether a conversation leaves room for the answer; True where nobody knows."""
        if self.window is None:
            return True
        room = self.window - TOKENS_LIMIT
        if _most_tokens(asked.messages) <= room:
            return True
        prefix = await self._count_once(asked.prefix)
        if prefix > room:
            return False
        if prefix + _most_tokens(asked.messages[-1:]) <= room:
            return True
        return await self._count(asked.messages) <= room

    async def _count_once(self, prefix: tuple[Message, ...]) -> int:
        if (known := self._counted.get(prefix)) is None:
            known = self._counted[prefix] = await self._count(prefix)
        return known

    async def _count(self, messages: Sequence[Message]) -> int:
        """Return the tokens of a conversation as the server counts them."""
        try:
            text = await self._text(messages)
            body = await self._http.look("/tokenize", tokenize_request(text))
            return len(decoded(body, Tokens).tokens)
        except (NoEndpointError, UnusableReplyError, PermanentError):
            return _most_tokens(messages) // BYTES_A_TOKEN

    async def _text(self, messages: Sequence[Message]) -> str:
        if not self._chat:
            return nemotron_prompt(messages)
        body = await self._http.look("/apply-template", template_request(tuple(messages)))
        return decoded(body, Template).prompt


def _most_tokens(messages: Sequence[Message]) -> int:
    return sum(len(message.content.encode()) + TURN_TOKENS for message in messages)
