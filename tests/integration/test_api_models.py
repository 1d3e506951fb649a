"""What the API says of the models: only what somebody has told."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from support.serving import Served, served

from domain.events import SYSTEM, ModelFacts, ProcessFacts, ServiceStateChanged, ServiceStatus
from inference.weights import SMOLLM2, Manifest, manifest_path

NOW = datetime(2026, 1, 8, tzinfo=UTC)
ROUTE = "/api/system/models"


@pytest.fixture
async def api(valkey_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(
        valkey_url,
        database_url,
        tmp_path,
        config=lambda given: replace(
            given,
            enrichment_services=frozenset({"clip"}),
            model_urls={
                "risk_model": "http://127.0.0.1:4711",
                "clip": "http://ann:secret@clip:8093",
            },
            models_dir=tmp_path / "models",
            embedded_llm_model=SMOLLM2.name,
        ),
    ) as running:
        yield running


def word(
    service: str, status: ServiceStatus, message: str, model: ModelFacts | None = None
) -> ServiceStateChanged:
    return ServiceStateChanged(
        camera_id=SYSTEM,
        service=service,
        status=status,
        message=message,
        changed_at=NOW,
        model=model,
    )


async def test_a_model_is_what_it_said_to_be_when_it_last_answered(api: Served) -> None:
    said = await api.json(ROUTE)
    assert [each["name"] for each in said["models"]] == [
        *("detector", "risk_model", "florence", "clip", "enrichment")
    ]
    unknown = await api.json(f"{ROUTE}/detector")
    assert unknown == {
        "name": "detector",
        "display_name": "Object detector",
        "task": "object_detection",
        "where": "embedded",
        "url": None,
        "model": None,
        "version": None,
        "engine": None,
        "fallback": None,
        "loaded": None,
        "status": "unknown",
        "message": "no agent has reported on it yet",
        "since": None,
        "sha256": None,
    }
    facts = ModelFacts(
        model="ssdlite", version="1", engine="embedded", fallback=True, sha256="ab" * 32
    )
    await api.append(word("detector", "healthy", facts.line, facts))
    detector = await api.json(f"{ROUTE}/detector")
    assert detector["message"] == "ssdlite 1 by embedded (offline fall-back, not RT-DETRv2)"
    assert (detector["loaded"], detector["fallback"]) == (True, True)
    assert (detector["model"], detector["sha256"]) == ("ssdlite", "ab" * 32)
    # when it goes away, then what it was is still known, and that it does not answer
    await api.append(word("detector", "unhealthy", "it does not answer", facts))
    away = await api.json(f"{ROUTE}/detector")
    assert (away["loaded"], away["status"], away["version"]) == (False, "unhealthy", "1")
    # … also by a process that starts later, from the read model
    (row,) = await api.services.queries.service_states()
    assert row.model == facts
    clip, florence = await api.json(f"{ROUTE}/clip"), await api.json(f"{ROUTE}/florence")
    assert (clip["where"], clip["url"]) == ("service", "http://clip:8093")
    assert (florence["where"], florence["status"], florence["loaded"]) == ("none", "off", None)
    await api.problem(f"{ROUTE}/nemotron", "model_not_found", status=404)


async def test_the_embedded_language_model_has_the_checksum_of_its_manifest(
    api: Served, tmp_path: Path
) -> None:
    there = await api.json(f"{ROUTE}/risk_model")
    assert (there["where"], there["url"]) == ("service", "http://127.0.0.1:4711")
    await api.append(word("risk_model", "healthy", "model.gguf", ModelFacts(model="model.gguf")))
    llm = word("llm", "running", "runs in the process 'llm'")
    facts = ProcessFacts(process="llm", host="here")
    await api.append(msgspec.structs.replace(llm, process=facts))
    path = SMOLLM2.path(tmp_path / "models")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    manifest = Manifest(
        name=SMOLLM2.name,
        version=SMOLLM2.version,
        sha256="cd" * 32,
        size=7,
        licence=SMOLLM2.licence,
        source="here",
        fetched_at=NOW,
    )
    manifest_path(path).write_bytes(msgspec.json.encode(manifest))
    embedded = await api.json(f"{ROUTE}/risk_model")
    assert (embedded["where"], embedded["url"]) == ("embedded", None)
    assert (embedded["model"], embedded["sha256"]) == ("model.gguf", "cd" * 32)
    path.write_bytes(b"others")
    assert (await api.json(f"{ROUTE}/risk_model"))["sha256"] is None
