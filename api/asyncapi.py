"""The AsyncAPI 3.0 document of the WebSocket channels, made from the structs sent and read.

`api/openapi.py` does the same for REST; what is shared is that nobody writes a schema by hand.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from api.broadcast import CHANNELS
from api.message_catalogue import REFERENCE, MessageType, message_types
from api.subscriptions import TOPICS
from api.websocket import LiveQuery

Json = dict[str, Any]
"""A piece of a JSON document: built here, encoded once, handed on as bytes."""

_ABOUT: Final = {
    "events": "What happens to events and cameras.",
    "system": "How the system is: every GPU poll, and when a service goes away or comes back.",
    "detections": "What the detector sees, picture by picture.",
}

_HELLO: Final = (
    "Messages are JSON texts with a `type`. The first one is `hello`; those that come from the "
    "event log carry a `cursor`: connect with `?cursor=` of the last one read, or send `resume`, "
    "and everything since then comes once and in order. Where keys are asked for, send one in the "
    "header X-API-Key, as `?api_key=` (or `?token=`), or as the sub-protocol `api-key.KEY`."
)


def asyncapi_document(title: str, version: str) -> bytes:
    """Return the document as JSON."""
    types = message_types()
    kinds = [each.kind for each in types]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    whole = {
        "asyncapi": "3.0.0",
        "info": {
            "title": title,
            "version": version,
            "description": _HELLO,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name, types) for name in CHANNELS},
        "operations": dict(_operations(types)),
        "components": {
            "messages": {each.name: _message(each) for each in types},
            "schemas": schemas,
        },
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=1)


def _channel(name: str, types: Iterable[MessageType]) -> Json:
    _, schemas = msgspec.json.schema_components([LiveQuery])
    query: Json = schemas[LiveQuery.__name__]
    return {
        "address": f"/ws/{name}",
        "title": name,
        "description": _ABOUT[name],
        "messages": {
            each.name: {"$ref": f"#/components/messages/{each.name}"}
            for each in types
            if name in each.channels
        },
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"type": "object", "properties": query["properties"]},
                "bindingVersion": "0.1.0",
            }
        },
        "x-topics": list(TOPICS[name]),
    }


def _operations(types: Iterable[MessageType]) -> Iterable[tuple[str, Json]]:
    """Give what is sent and what is received, as this server does it."""
    for channel in CHANNELS:
        for action, from_client in (("send", False), ("receive", True)):
            yield (
                f"{action}_{channel}",
                {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{channel}"},
                    "messages": [
                        {"$ref": f"#/channels/{channel}/messages/{each.name}"}
                        for each in types
                        if channel in each.channels and each.from_client is from_client
                    ],
                },
            )


def _message(each: MessageType) -> Json:
    told: Json = {
        "name": each.tag,
        "title": each.name,
        "summary": each.description,
        "contentType": "application/json",
        "payload": {"$ref": REFERENCE.format(name=each.name)},
    }
    if each.topic is not None:
        told["x-topic"] = each.topic
    return told
