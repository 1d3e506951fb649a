"""WebSocket messages held against the AsyncAPI document: what it does not describe is refused."""

import json
from typing import Any

import jsonschema_rs
import pytest
from aiohttp import ClientWebSocketResponse, WSMessage, WSMsgType

from api.asyncapi import asyncapi_document

Json = dict[str, Any]


class Described:
    """What the document says that each channel's clients are told, to the last field."""

    def __init__(self) -> None:
        self.document: Json = json.loads(asyncapi_document("HSI", "1"))
        schemas = self.document["components"]["schemas"]
        for schema in schemas.values():
            if "properties" in schema:
                schema["additionalProperties"] = False
        self.seen: dict[str, set[str]] = {}
        """Channel → names of the messages that came."""
        self._validators = {
            name: jsonschema_rs.validator_for(
                {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
            )
            for name in self.document["components"]["messages"]
        }

    def named(self, channel: str, action: str) -> list[str]:
        """Return the names of the messages that the server sends or receives on a channel."""
        operation = self.document["operations"][f"{action}_{channel}"]
        return [message["$ref"].rpartition("/")[2] for message in operation["messages"]]

    def check(self, channel: str, text: str) -> str:
        """Return the name of a message that the server sent; fails when it is not described."""
        message = json.loads(text)
        names = self.named(channel, "send")
        fitting = [name for name in names if self._validators[name].is_valid(message)]
        if len(fitting) != 1:
            of_type = [name for name in names if self._tag(name) == message.get("type")]
            why = [
                (name, error.message, list(error.instance_path))
                for name in of_type
                for error in self._validators[name].iter_errors(message)
            ]
            pytest.fail(f"/ws/{channel} does not describe {text[:500]}: {why or fitting}")
        self.seen.setdefault(channel, set()).add(fitting[0])
        return fitting[0]

    def may_be_said(self, channel: str, message: Any) -> bool:
        """Say whether the document lets clients of a channel say something."""
        names = self.named(channel, "receive")
        return any(self._validators[name].is_valid(message) for name in names)

    def _tag(self, name: str) -> str:
        tag: str = self.document["components"]["messages"][name]["name"]
        return tag


def checking(monkeypatch: pytest.MonkeyPatch) -> Described:
    """Let every message that a client reads from now on be checked."""
    described = Described()
    receive = ClientWebSocketResponse.receive

    async def checked(self: ClientWebSocketResponse, *args: Any, **more: Any) -> WSMessage:
        message = await receive(self, *args, **more)
        if message.type is WSMsgType.TEXT:
            described.check(self._response.url.path.removeprefix("/ws/"), message.data)
        return message

    monkeypatch.setattr(ClientWebSocketResponse, "receive", checked)
    return described
