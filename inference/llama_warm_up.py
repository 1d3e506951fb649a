"""The warm-up question of the embedded language model: reads the prompt's static part ahead.

Reading it takes a small machine half a minute; without this the first event would wait for it.
"""

import http.client
import time
from http import HTTPStatus
from typing import Final

import msgspec

from inference.llama_wire import warm_up_request
from inference.prompts import load_prompt

LOOK_SECONDS: Final = 0.1
TIMEOUT_SECONDS: Final = 600.0


def warm_up(host: str, port: int, key: str | None) -> float:
    """Ask once the model is loaded and return the seconds it took; blocks.

    Raises OSError or http.client.HTTPException when the server does not answer.
    """
    while (status := _ask(host, port, key, "/health", None)) == HTTPStatus.SERVICE_UNAVAILABLE:
        time.sleep(LOOK_SECONDS)
    started = time.monotonic()
    body = msgspec.json.encode(warm_up_request(load_prompt().prefix()))
    status = _ask(host, port, key, "/v1/chat/completions", body)
    if status != HTTPStatus.OK:
        raise http.client.HTTPException(f"HTTP {status}")
    return time.monotonic() - started


def _ask(host: str, port: int, key: str | None, path: str, body: bytes | None) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
