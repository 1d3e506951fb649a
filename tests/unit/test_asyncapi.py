"""The committed AsyncAPI document is made from the structs that are sent, and leads somewhere."""

import json
from typing import Any

import pytest
from support.asyncapi import Described
from typer.testing import CliRunner

from api.asyncapi import asyncapi_document
from api.client_messages import Ping, UnusableError, read_message
from api.message_catalogue import message_types
from api.subscriptions import TOPICS
from hsi.__main__ import build
from runtime.settings import PROJECT_ROOT, Settings

COMMITTED = PROJECT_ROOT / "docs" / "asyncapi.json"
RENEW = "run: .venv/bin/hsi api --asyncapi > docs/asyncapi.json"


def test_the_committed_document_is_what_is_sent() -> None:
    fields = Settings.model_fields
    title, version = fields["app_name"].default, fields["app_version"].default
    assert COMMITTED.read_bytes() == asyncapi_document(title, version) + b"\n", RENEW


def test_the_command_prints_the_document() -> None:
    said = CliRunner().invoke(build("api"), ["api", "--asyncapi"])
    assert json.loads(said.stdout)["asyncapi"] == "3.0.0"


def test_every_reference_leads_somewhere() -> None:
    document = Described().document
    for reference in _references(document):
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in at, reference
            at = at[part]


def _references(part: object) -> list[str]:
    if isinstance(part, dict):
        here = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return here + [each for value in part.values() for each in _references(value)]
    if isinstance(part, list):
        return [each for value in part for each in _references(value)]
    return []


def test_every_topic_has_a_message_and_every_message_says_what_it_is() -> None:
    types = message_types()
    topics = {topic for of_channel in TOPICS.values() for topic in of_channel}
    assert {each.topic for each in types if each.topic is not None} == topics
    assert all(each.description for each in types)
    assert len({each.name for each in types}) == len(types)


def test_a_field_that_nobody_described_is_found() -> None:
    described = Described()
    assert described.check("events", '{"type":"resumed","cursor":"x","count":1}') == "Resumed"
    for wrong in (
        '{"type":"resumed","cursor":"x","count":1,"more":1}',
        '{"type":"resumed","cursor":"x"}',
        '{"type":"detection","cursor":"x","data":{}}',
        '{"type":"dance"}',
    ):
        with pytest.raises(pytest.fail.Exception):
            described.check("events", wrong)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"type": "ping"}, None),
        ({"type": "resume", "cursor": "x"}, None),
        ({"type": "subscribe", "patterns": ["event.*"]}, None),
        ({"type": "unsubscribe", "patterns": []}, None),
        ({"type": "resume"}, "validation_error"),
        ({"type": "resume", "cursor": 7}, "validation_error"),
        ({"type": "subscribe", "patterns": "event.*"}, "validation_error"),
        ({"type": "dance"}, "unknown_message_type"),
        ({"kind": "ping"}, "invalid_message_format"),
        ([], "invalid_message_format"),
    ],
)
def test_what_clients_may_say_is_what_is_read(said: object, code: str | None) -> None:
    assert Described().may_be_said("events", said) == (code is None)
    if code is None:
        read_message(json.dumps(said))
        return
    with pytest.raises(UnusableError) as caught:
        read_message(json.dumps(said))
    assert caught.value.code == code


def test_what_a_client_says_beyond_that_is_passed_over() -> None:
    assert read_message('{"type":"ping","more":1}') == read_message(" ping\n") == Ping()
