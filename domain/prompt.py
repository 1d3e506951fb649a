"""What the language model is asked, and the strict reading of what it answers.

A prompt is a static prefix (rules and worked examples, cached by the server) and one question made
from facts. Its words are files with a version (inference/prompts); the examples' questions come
from the same rules as the real ones, so they cannot drift apart. No text found in a picture and
no name that was not cleaned gets in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Final, Literal

import msgspec

from domain.errors import TransientError
from domain.events import BatchFacts, Signal
from domain.names import clean_name, clean_text, counted
from domain.risk_rules import judge

SUMMARY_LIMIT: Final = 300
REASONING_LIMIT: Final = 600
REPLY_LIMIT: Final = 8_000
"""Characters of a whole reply; more is never parsed."""
OBJECTS_LIMIT: Final = 8
"""Kinds of object a question names."""
SIGN: Final = "Sign: "
HISTORY: Final = "History: "

REPLY_SCHEMA: Final[dict[str, object]] = {
    "type": "object",
    "properties": {
        "risk_score": {"type": "integer", "minimum": 0, "maximum": 100},
        "summary": {"type": "string", "minLength": 1, "maxLength": SUMMARY_LIMIT},
        "reasoning": {"type": "string", "minLength": 1, "maxLength": REASONING_LIMIT},
    },
    "required": ["risk_score", "summary", "reasoning"],
    "additionalProperties": False,
}


class UnusableReplyError(TransientError):
    """The model's reply cannot be used; another try may give a better one."""

    answer: str

    def __init__(self, reason: str, message: str, answer: str) -> None:
        super().__init__(f"the language model's reply cannot be used ({reason}): {message}")
        self.reason = reason
        """Stable code: empty, too_long, truncated, not_json, invalid or wrong_envelope."""
        self.answer = answer


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The language model's answer as the schema demands it."""

    risk_score: Annotated[int, msgspec.Meta(ge=0, le=100)]
    summary: Annotated[str, msgspec.Meta(min_length=1, max_length=SUMMARY_LIMIT)]
    reasoning: Annotated[str, msgspec.Meta(min_length=1, max_length=REASONING_LIMIT)]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation with a language model."""

    role: Literal["system", "user", "assistant"]
    content: str


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worked example: facts, and the answer wanted for them."""

    name: str
    keep: int
    """When the context is short the example with the smallest number is left out first."""
    camera: str
    entry_point: bool
    facts: BatchFacts
    answer: Reply

    def turns(self) -> tuple[Message, Message]:
        """Return the question that the rules make of the facts, and the answer."""
        verdict = judge(self.facts, entry_point=self.entry_point)
        lines = signal_lines(verdict.signals)
        question = question_text(self.camera, self.facts, verdict.score, verdict.floor, lines)
        answer = msgspec.json.encode(self.answer).decode()
        return Message("user", question), Message("assistant", answer)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of the static prefix."""

    version: str
    """Stored with every refinement; one version is one text."""
    system: str
    examples: tuple[Example, ...]

    def conversation(self, question: str) -> tuple[Message, ...]:
        """Return the static prefix and then the question."""
        return (*self.prefix(), Message("user", question))

    def prefix(self) -> tuple[Message, ...]:
        """Return what every conversation begins with."""
        turns = [turn for example in self.examples for turn in example.turns()]
        return (Message("system", self.system), *turns)

    def sha256(self) -> str:
        """Return the checksum of the prefix as it is sent."""
        return messages_sha256(self.prefix())


def messages_sha256(messages: Sequence[Message]) -> str:
    """Return the checksum of a conversation."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return sha256(msgspec.json.encode(turns)).hexdigest()


def signal_lines(signals: Sequence[Signal]) -> tuple[str, ...]:
    """Return one line for each sign that changed the score, then what is usual there."""
    changed = [s for s in signals if s.points and s.name != "baseline"]
    history = [s for s in signals if s.name == "baseline"]
    return (
        *(f"{SIGN}{signal.why} ({signal.points:+d})" for signal in changed),
        *(f"{HISTORY}{signal.why} ({signal.points:+d})" for signal in history),
    )


def question_text(
    camera_name: str, facts: BatchFacts, rule_score: int, floor: int, lines: Sequence[str]
) -> str:
    """Return the question about one batch."""
    seen = [
        f"{counted(fact.label, fact.most_at_once)} in {fact.pictures} of {facts.picture_count}"
        f" pictures (sure {fact.best_score:.2f})"
        for fact in facts.objects[:OBJECTS_LIMIT]
    ]
    seconds = round(facts.dwell_seconds)
    stayed = f"{seconds} seconds" if seconds > 1 else "a moment"
    floor_text = f", not below {floor}" if floor else ""
    return "\n".join(
        (
            f'Camera: "{clean_name(camera_name)}"',
            f"Time: {facts.local_time} ({facts.part_of_day})",
            f"Seen: {'; '.join(seen) or 'nothing'}",
            f"In view for: {stayed}",
            *lines,
            f"Rule score: {rule_score}{floor_text}",
        )
    )


def nemotron_prompt(messages: Sequence[Message]) -> str:
    """Return the conversation in Nemotron-Mini's template, for `/completion`."""
    markers = {
        "system": "<extra_id_0>System",
        "user": "<extra_id_1>User",
        "assistant": "<extra_id_1>Assistant",
    }
    turns = [f"{markers[message.role]}\n{message.content}\n" for message in messages]
    return "".join((*turns, f"{markers['assistant']}\n"))


def parse_reply(text: str) -> Reply:
    """Read a reply strictly; raises UnusableReplyError for anything but the agreed object."""
    if not text.strip():
        raise UnusableReplyError("empty", "it is empty", text)
    if len(text) > REPLY_LIMIT:
        message = f"it has {len(text)} characters, at most {REPLY_LIMIT} are read"
        raise UnusableReplyError("too_long", message, text[:REPLY_LIMIT])
    try:
        reply = msgspec.json.decode(text.strip(), type=Reply)
    except msgspec.ValidationError as error:
        raise UnusableReplyError("invalid", str(error), text) from error
    except msgspec.DecodeError as error:
        reason = "truncated" if "truncated" in str(error) else "not_json"
        raise UnusableReplyError(reason, str(error), text) from error
    except (UnicodeError, RecursionError) as error:
        raise UnusableReplyError("not_json", type(error).__name__, text) from error
    return _cleaned(reply, text)


def _cleaned(reply: Reply, text: str) -> Reply:
    summary, reasoning = clean_text(reply.summary), clean_text(reply.reasoning)
    if not summary or not reasoning:
        message = "summary or reasoning is empty once control characters are gone"
        raise UnusableReplyError("invalid", message, text)
    return Reply(risk_score=reply.risk_score, summary=summary, reasoning=reasoning)
