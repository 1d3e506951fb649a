"""llama.cpp's server twice: a fake that says what it is told, and the real one, tiny."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web

from domain.prompt import Prompt
from inference.downloads import Fetcher
from inference.prompts import load_prompt
from inference.weights import SMOLLM2

KEY = "test-key"
SHORT = Prompt("short", load_prompt().system, load_prompt().examples[3:])
"""Read in half the time; with fewer examples the tiny model rambles."""
GOOD_REPLY = json.dumps(
    {"risk_score": 20, "summary": "A person at the door.", "reasoning": "A short visit by day."}
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@cache
def smollm2_gguf() -> Path:
    """Return the tiny model, fetched once into a cache outside the repository."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    fetcher = Fetcher(cache_home / "hsi-tests" / "models")
    # In a thread of its own: the caller may be inside a running event loop.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(fetcher.fetch(SMOLLM2))).result().path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class FakeLlama:
    """What the fake answers next, and what it was asked."""

    url: str = ""
    reply: str = GOOD_REPLY
    finish: str = "stop"
    respond: Handler | None = None
    """When set, answers every request to a completion endpoint instead."""
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    """What the completion endpoints were asked."""
    window: int | None = 4096
    """Tokens of context it tells of; None: it knows neither context nor slots."""
    slots: int = 2
    tokens_in: int = 900
    counted: int = 0
    """Questions to `/tokenize`."""
    working: int = 0
    most_at_once: int = 0

    async def chat(self, request: web.Request) -> web.StreamResponse:
        if (refused := await self._take(request)) is not None:
            return refused
        choice = {"message": {"content": self.reply}, "finish_reason": self.finish}
        usage = {
            "prompt_tokens": self.tokens_in,
            "completion_tokens": 60,
            "prompt_tokens_details": {"cached_tokens": 700},
        }
        answer = {"choices": [choice], "usage": usage, "model": "/models/tiny.gguf"}
        return web.json_response(answer)

    async def completion(self, request: web.Request) -> web.StreamResponse:
        if (refused := await self._take(request)) is not None:
            return refused
        stop = "limit" if self.finish == "length" else "eos"
        counts = {
            "tokens_evaluated": self.tokens_in,
            "tokens_predicted": 60,
            "timings": {"cache_n": 700},
        }
        return web.json_response({"content": self.reply, "stop_type": stop, **counts})

    async def models(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refused(request)) is not None:
            return refused
        return web.json_response({"data": [{"id": "/models/tiny.gguf"}]})

    async def props(self, request: web.Request) -> web.StreamResponse:
        if self.window is None:
            return web.json_response({"error": {"code": 404}}, status=404)
        if (refused := self._refused(request)) is not None:
            return refused
        settings = {"n_ctx": self.window}
        return web.json_response(
            {"total_slots": self.slots, "default_generation_settings": settings}
        )

    async def template(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        turns = [f"<{turn['role']}> {turn['content']}" for turn in body["messages"]]
        return web.json_response({"prompt": "\n".join(turns)})

    async def tokenize(self, request: web.Request) -> web.StreamResponse:
        self.counted += 1
        content = (await request.json())["content"]
        return web.json_response({"tokens": [0] * (len(content) // 4)})

    async def health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _take(self, request: web.Request) -> web.StreamResponse | None:
        self.requests.append((request.path, dict(request.headers), await request.json()))
        if (refused := self._refused(request)) is not None:
            return refused
        self.working += 1
        self.most_at_once = max(self.most_at_once, self.working)
        try:
            return await self.respond(request) if self.respond else None
        finally:
            self.working -= 1

    def _refused(self, request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == f"Bearer {KEY}":
            return None
        error = {"message": "Invalid API Key", "type": "authentication_error", "code": 401}
        return web.json_response({"error": error}, status=401)


@asynccontextmanager
async def fake_llama() -> AsyncIterator[FakeLlama]:
    """Run the fake on a free port."""
    fake = FakeLlama()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", fake.chat)
    app.router.add_post("/completion", fake.completion)
    app.router.add_get("/v1/models", fake.models)
    app.router.add_get("/health", fake.health)
    app.router.add_get("/props", fake.props)
    app.router.add_post("/apply-template", fake.template)
    app.router.add_post("/tokenize", fake.tokenize)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    fake.url = f"http://127.0.0.1:{port}"
    try:
        yield fake
    finally:
        await runner.cleanup()


def child_command(model: Path, port: int, *more: str) -> list[str]:
    """Return the command line of the embedded server."""
    arguments = ["--model", str(model), "--port", str(port), "--parallel", "2", *more]
    return [sys.executable, "-P", "-m", "inference.llama_child", *arguments]


@contextmanager
def llama_child(folder: Path, *more: str) -> Iterator[str]:
    """Run the real server with the tiny model until it answers; yields its base URL."""
    key_file, log = folder / "key", folder / "llama.log"
    key_file.write_text(f"{KEY}\n")
    port = free_port()
    command = child_command(smollm2_gguf(), port, "--api-key-file", str(key_file), *more)
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_healthy(url, child, log)
            yield url
        finally:
            child.send_signal(signal.SIGTERM)
            assert child.wait(10) == 0


def wait_until_healthy(url: str, child: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait for HTTP 200 of `/health`, or fail with the server's own words."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and child.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            time.sleep(0.05)
    raise AssertionError(f"no healthy llama.cpp at {url}: {log.read_text()[-2000:]}")
