"""An own prompt in a folder, and a language model that answers each prompt otherwise."""

import json
from pathlib import Path
from shutil import copytree

from aiohttp import web
from support.llama import GOOD_REPLY, FakeLlama

from domain.prompt import Prompt
from inference.prompts import FOLDER, load_prompt

OWN_WORDS = "You are the night watch of a small house."


def own_prompt(folder: Path) -> Path:
    """Write a folder with the one prompt `own-1`, as an operator does."""
    copytree(FOLDER / "risk-v1", folder / "own-1")
    (folder / "own-1" / "system.txt").write_text(OWN_WORDS)
    sha256 = Prompt("own-1", OWN_WORDS, load_prompt("risk-v1").examples).sha256()
    entry = {"since": "2026-11-22", "about": "a stricter watch", "sha256": sha256}
    (folder / "manifest.json").write_text(
        json.dumps({"current": "own-1", "versions": {"own-1": entry}})
    )
    return folder


def answer_own_prompt(fake: FakeLlama, score: int) -> None:
    """Let the fake answer the own prompt with this score, and others as before."""

    async def respond(request: web.Request) -> web.StreamResponse:
        reply = json.loads(GOOD_REPLY)
        if is_own(await request.json()):
            reply |= {"risk_score": score, "summary": "The night watch is worried."}
        choice = {"message": {"content": json.dumps(reply)}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 900, "completion_tokens": 60}
        model = "/models/tiny.gguf"
        return web.json_response({"choices": [choice], "usage": usage, "model": model})

    fake.respond = respond


def is_own(body: dict[str, list[dict[str, str]]]) -> bool:
    """Say whether a question was put with the own prompt."""
    return body["messages"][0]["content"] == OWN_WORDS
