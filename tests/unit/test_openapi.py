"""The committed OpenAPI document is the one that the routes make, and says what it should."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from api.app import TOPICS, openapi_document
from api.problems import CODES
from hsi.__main__ import build
from runtime.settings import PROJECT_ROOT, Settings

COMMITTED = PROJECT_ROOT / "docs" / "openapi.json"
RENEW = "run: .venv/bin/hsi api --openapi > docs/openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(openapi_document("HSI", "1"))
    return made


def test_the_committed_document_is_what_the_routes_say() -> None:
    fields = Settings.model_fields
    title, version = fields["app_name"].default, fields["app_version"].default
    assert COMMITTED.read_bytes() == openapi_document(title, version) + b"\n", RENEW


def test_the_command_prints_the_document() -> None:
    said = CliRunner().invoke(build("api"), ["api", "--openapi"])
    assert json.loads(said.stdout)["openapi"] == "3.1.0"


def test_every_route_is_described_once_under_a_name_of_its_own(document: dict[str, Any]) -> None:
    described = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    declared = [
        operation.name
        for topic in TOPICS
        for operation in topic.routes.operations
        if operation.documented and 101 not in operation.answers
    ]
    assert sorted(described) == sorted(declared)
    assert len(set(described)) == len(described)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    components = dict(document["components"])
    schemes = set(components.pop("securitySchemes"))
    used = {
        scheme
        for path in document["paths"].values()
        for operation in path.values()
        for way in operation["security"]
        for scheme in way
    }
    assert used == schemes
    for kind, parts in components.items():
        for name in parts:
            assert f'"#/components/{kind}/{name}"' in text, (kind, name)
    for part in text.split('"$ref": "#/components/')[1:]:
        kind, name = part.split('"')[0].split("/")
        assert name in document["components"][kind]


def test_every_problem_names_its_codes(document: dict[str, Any]) -> None:
    for name, response in document["components"]["responses"].items():
        status, *codes = name.split("-")
        assert codes
        for code in codes:
            assert str(CODES[code][0]) == status
            assert code in response["description"]


def test_what_may_be_left_out_has_its_default(document: dict[str, Any]) -> None:
    listed = document["paths"]["/api/events"]["get"]["parameters"]
    limit = next(each for each in listed if each["name"] == "limit")
    assert limit["schema"]["default"] == 50
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, 1000)
    assert "required" not in limit
