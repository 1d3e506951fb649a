"""What goes over the wire to llama.cpp's server and back: requests, replies, their decoding."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, TypeVar

import msgspec

from domain.names import clean_text
from domain.prompt import REPLY_SCHEMA, Message, UnusableReplyError, nemotron_prompt

TOKENS_LIMIT: Final = 400
"""Tokens of one reply: room for the longest summary and reasoning the schema allows in English."""
_TEMPERATURE: Final = 0.1
_TEMPLATE_ARGUMENTS: Final = {"enable_thinking": False}
"""Models that think aloud first would spend the token limit on it."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the chat or the completion endpoint said, in one form."""

    text: str
    complete: bool
    tokens_in: int
    tokens_out: int
    model: str
    tokens_cached: int | None = None
    """Tokens of the question the server still had from before; None: it does not tell."""


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Timings(msgspec.Struct):
    cache_n: int | None = None


class _ChatMessage(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _ChatMessage
    finish_reason: str | None = None


class ChatReply(msgspec.Struct):
    """Reply of `/v1/chat/completions`."""

    choices: list[_Choice]
    usage: _Usage | None = None
    model: str | None = None

    def answer(self) -> Answer:
        """Return the reply in the form both endpoints share."""
        choice = self.choices[0] if self.choices else _Choice(message=_ChatMessage())
        usage = self.usage or _Usage()
        return Answer(
            text=choice.message.content or "",
            complete=choice.finish_reason != "length",
            tokens_in=usage.prompt_tokens,
            tokens_out=usage.completion_tokens,
            model=self.model or "",
            tokens_cached=(usage.prompt_tokens_details or _PromptDetails()).cached_tokens,
        )


class CompletionReply(msgspec.Struct):
    """Reply of `/completion`."""

    content: str
    stop_type: str = ""
    stopped_limit: bool = False
    """How servers before 2025 say that the token limit ended the reply."""
    tokens_evaluated: int = 0
    tokens_predicted: int = 0
    model: str | None = None
    timings: _Timings | None = None

    def answer(self) -> Answer:
        """Return the reply in the form both endpoints share."""
        return Answer(
            text=self.content,
            complete=self.stop_type != "limit" and not self.stopped_limit,
            tokens_in=self.tokens_evaluated,
            tokens_out=self.tokens_predicted,
            model=self.model or "",
            tokens_cached=(self.timings or _Timings()).cache_n,
        )


class ModelEntry(msgspec.Struct):
    """One model that a server offers."""

    id: str


class Models(msgspec.Struct):
    """Reply of `/v1/models`."""

    data: list[ModelEntry]


class _SlotSettings(msgspec.Struct, frozen=True):
    n_ctx: int | None = None


class Props(msgspec.Struct):
    """Reply of `/props`; what is not told stays None."""

    model_path: str = ""
    total_slots: int | None = None
    """Questions that are worked on side by side."""
    default_generation_settings: _SlotSettings = _SlotSettings()
    """`n_ctx`: tokens of context that each of them has."""


class Template(msgspec.Struct):
    """Reply of `/apply-template`."""

    prompt: str


class Tokens(msgspec.Struct):
    """Reply of `/tokenize`."""

    tokens: list[msgspec.Raw]


class _Error(msgspec.Struct):
    type: str = ""
    n_ctx: int | None = None


class ErrorReply(msgspec.Struct):
    """What llama.cpp says with a status of 400 and above."""

    error: _Error


def turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return a conversation as chat endpoints take it."""
    return [{"role": message.role, "content": message.content} for message in messages]


def chat_request(messages: Sequence[Message]) -> dict[str, object]:
    """Return the body for `/v1/chat/completions`, where the server applies its own template."""
    return {
        "messages": turns(messages),
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "risk", "strict": True, "schema": REPLY_SCHEMA},
        },
        "max_tokens": TOKENS_LIMIT,
        "temperature": _TEMPERATURE,
        "cache_prompt": True,
        "stream": False,
        "chat_template_kwargs": _TEMPLATE_ARGUMENTS,
    }


def warm_up_request(prefix: Sequence[Message]) -> dict[str, object]:
    """Return the body that has the server read the prompt's static part, and answer one token."""
    request = chat_request([*prefix, Message("user", "Camera:")])
    del request["response_format"]
    return request | {"max_tokens": 1}


def template_request(messages: Sequence[Message]) -> dict[str, object]:
    """Return the body for `/apply-template`, which renders as `/v1/chat/completions` does."""
    return {"messages": turns(messages), "chat_template_kwargs": _TEMPLATE_ARGUMENTS}


def tokenize_request(text: str) -> dict[str, object]:
    """Return the body for `/tokenize`, counting as a prompt is counted."""
    return {"content": text, "add_special": True, "parse_special": True}


def completion_request(messages: Sequence[Message]) -> dict[str, object]:
    """Return the body for `/completion`, in the template of Nemotron-Mini."""
    return {
        "prompt": nemotron_prompt(messages),
        "json_schema": REPLY_SCHEMA,
        "n_predict": TOKENS_LIMIT,
        "temperature": _TEMPERATURE,
        "cache_prompt": True,
        "stream": False,
        "stop": ["<extra_id_1>"],
    }


def decoded(body: bytes, kind: type[_T]) -> _T:
    """Read a body as `kind`; raises UnusableReplyError when it is something else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        message = f"the server's answer is not what llama.cpp sends: {error}"
        raise UnusableReplyError("wrong_envelope", message, text_of(body[:2000])) from error


def text_of(data: bytes | bytearray) -> str:
    """Return bytes as text for messages, whatever they are."""
    return data.decode("utf-8", "replace")


def short_name(model: str) -> str:
    """Return a model's file name: folders of the server are nobody's business."""
    return clean_text(PurePath(model).name)[:120]
