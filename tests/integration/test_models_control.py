"""`hsi models` against a real, encrypted Triton server: list, promote, bench, doctor."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from support.certificates import certificate, server_side
from support.detect_service import serve, using
from support.instant_model import MODEL, lay_out
from support.triton import TritonServer, installed
from typer.testing import CliRunner, Result

from domain.errors import HsiError, PermanentError, ServiceUnavailableError
from hsi.models import app
from inference.detectors import DetectorOptions, open_detector
from inference.ports import Picture
from inference.version_policy import CONFIG, pin, write

EXPECT = ("--expect", "dog=0.5")


@dataclass(frozen=True)
class Encrypted:
    """A server that speaks TLS alone, and the authority behind its certificate."""

    server: TritonServer
    ca: Path
    stranger: Path
    """An authority that has signed nothing here."""

    @property
    def url(self) -> str:
        return self.server.url.replace("grpc://", "grpcs://")


@pytest.fixture(scope="module")
def encrypted() -> Iterator[Encrypted]:
    folder = Path(tempfile.mkdtemp(prefix="hsi-triton-"))
    lay_out(folder / "models", {1: "0.6", 2: "0.7", 3: "0.1"})
    ca, key = certificate(folder, "triton")
    stranger, _ = certificate(folder, "stranger")
    options = [
        "--model-control-mode=explicit",
        f"--load-model={MODEL}",
        "--grpc-use-ssl=1",
        f"--grpc-server-cert={ca}",
        f"--grpc-server-key={key}",
    ]
    server = TritonServer(installed(), folder, folder / "models", options)
    server.start()
    yield Encrypted(server, ca, stranger)
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def triton(encrypted: Encrypted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encrypted:
    """Configure the command for the server, with an empty models folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HSI_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("RTDETR_URL", encrypted.url)
    monkeypatch.setenv("AI_CA_PATH", str(encrypted.ca))
    return encrypted


def hsi_models(triton: Encrypted, *arguments: str) -> Result:
    where = ("--repository", str(triton.server.repository))
    return CliRunner().invoke(app, [*arguments, *where])


def states(triton: Encrypted) -> dict[int, str]:
    listed = json.loads(hsi_models(triton, "list", "--json").output)
    assert "triton 2." in listed["server"]
    return {row["version"]: row["state"] for row in listed["repository"]}


@pytest.mark.slow
def test_versions_are_switched_refused_and_taken_back(triton: Encrypted) -> None:
    assert states(triton) == {1: "READY", 2: "not loaded", 3: "not loaded"}
    none = hsi_models(triton, "rollback", *EXPECT)
    assert isinstance(none.exception, PermanentError)
    assert "knows of no switch to take back" in str(none.exception)

    promoted = hsi_models(triton, "promote", "2", *EXPECT)
    assert promoted.exit_code == 0, promoted.exception
    assert "done rtdetrv2: version 2:instant saw dog 0.70, and serves" in promoted.output
    assert states(triton)[2] == "READY"

    # Without a number the highest is meant; it does not see enough, and nothing happens.
    refused = hsi_models(triton, "promote", *EXPECT)
    assert isinstance(refused.exception, HsiError)
    assert "nothing was switched: version 3:instant does not see dog" in str(refused.exception)
    # What the product's own picture shows, this model does not see either.
    assert "does not see bicycle" in str(hsi_models(triton, "promote", "1").exception)
    assert states(triton)[2] == "READY"

    back = hsi_models(triton, "rollback", *EXPECT)
    assert "version 1:instant saw dog 0.60, and serves" in back.output
    assert states(triton)[1] == "READY"


def test_a_model_is_unloaded_and_loaded_and_judged(triton: Encrypted) -> None:
    assert "version 1 is unloaded" in hsi_models(triton, "unload").output
    assert "was not loaded" in hsi_models(triton, "unload").output
    unfit = hsi_models(triton, "load", "--expect", "person")
    assert "does not see person" in str(unfit.exception)
    assert "READY" not in states(triton)[1], "what is not good does not stay loaded"
    loaded = hsi_models(triton, "load", *EXPECT)
    assert "version 1 is ready; version 1:instant saw dog 0.60" in loaded.output


def test_a_load_lets_no_other_version_serve(triton: Encrypted) -> None:
    config = triton.server.repository / MODEL / CONFIG
    before = pin(config, 3)  # As an operator would write it by hand.
    try:
        refused = hsi_models(triton, "load", *EXPECT)
        assert isinstance(refused.exception, PermanentError)
        assert "a load would let version 3 serve unseen: `hsi models promote 3" in str(
            refused.exception
        )
        assert states(triton)[1] == "READY"
    finally:
        write(config, before)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("promote", "9", *EXPECT), "has no version 9; it has 1, 2, 3"),
        (("load", "yolo", *EXPECT), "has no model yolo; there are: rtdetrv2"),
        (("load", "--expect", "ghost"), "the model has no class ghost"),
        (("load", "--expect", "dog=2"), "the score is a number above 0, up to 1"),
        (("load", "--golden", "gone.jpg", *EXPECT), "gone.jpg cannot be read"),
        (("load", "--golden", "gone.jpg"), "say with --expect what must be seen in it"),
        (("load", "--url", "http://127.0.0.1:9", *EXPECT), "is no Triton server"),
    ],
)
def test_what_cannot_be_done_says_why(
    triton: Encrypted, arguments: tuple[str, ...], said: str
) -> None:
    result = hsi_models(triton, *arguments)
    assert isinstance(result.exception, PermanentError)
    assert said in str(result.exception)


def test_list_says_who_does_not_answer(triton: Encrypted, monkeypatch: pytest.MonkeyPatch) -> None:
    output = hsi_models(triton, "list").output
    assert "rtdetrv2             version 1, cpu, instant, no weights file, READY" in output
    monkeypatch.setenv("RTDETR_URL", "grpc://127.0.0.1:9")
    listed = hsi_models(triton, "list")
    assert listed.exit_code == 0
    assert "Server: grpc://127.0.0.1:9 does not answer" in listed.output
    asked_for = hsi_models(triton, "list", "--url", "grpc://127.0.0.1:9")
    assert asked_for.exit_code == 1
    assert "does not answer" in asked_for.output
    for command in ("list", "doctor"):
        nowhere = CliRunner().invoke(app, [command, "--repository", "/nowhere"])
        assert "--repository /nowhere is no folder" in str(nowhere.exception)
    other = hsi_models(triton, "list", "--url", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 is no Triton server" in str(other.exception)


def test_bench_measures_what_is_configured(triton: Encrypted, tmp_path: Path) -> None:
    chart = tmp_path / "bench.svg"
    small = ("bench", "--batches", "1,4", "--concurrency", "2", "--seconds", "0.3")
    result = CliRunner().invoke(app, [*small, "--chart", str(chart), "--json"])
    assert result.exit_code == 0, result.exception
    told = json.loads(result.stdout.splitlines()[-1])
    assert (told["model"], told["version"]) == (MODEL, "1:instant")
    assert [(p["batch"], p["concurrency"]) for p in told["points"]] == [(1, 2), (4, 2)]
    for point in told["points"]:
        assert point["pictures_per_s"] > 1
        assert 0 < point["p50_ms"] <= point["p95_ms"] <= point["p99_ms"]
    assert "batch 4 × 2" in chart.read_text()
    shown = CliRunner().invoke(app, list(small))
    assert "Measuring rtdetrv2 1:instant by triton" in shown.output
    assert "█" in shown.output
    wrong = CliRunner().invoke(app, ["bench", "--batches", "0"])
    assert "write numbers from 1 to 16" in str(wrong.exception)


def test_doctor_tells_facts_and_fails_where_something_is_missing(
    triton: Encrypted, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = hsi_models(triton, "doctor", "--json")
    findings = {f["about"]: f for f in json.loads(result.output)["findings"]}
    assert result.exit_code == int("fail" in [f["status"] for f in findings.values()])
    assert findings["detector"]["status"] == "pass"
    assert findings["detector"]["told"] == f"{triton.url} answers: rtdetrv2 1:instant"
    assert findings["GPU"]["status"] in ("fact", "pass", "warn")
    assert "tritonclient 2." in findings["versions"]["told"]
    monkeypatch.setenv("RTDETR_URL", "grpc://127.0.0.1:9")
    away = hsi_models(triton, "doctor")
    assert away.exit_code == 1
    assert "fail  detector" in away.output


async def test_the_authority_decides_whom_to_trust(encrypted: Encrypted, tmp_path: Path) -> None:
    grey = Picture(np.full((640, 640, 3), 127, np.uint8), 640, 640, b"", "grey.png")
    trusting = DetectorOptions(tmp_path, ca_path=encrypted.ca)
    async with using(open_detector(encrypted.url, trusting)) as detector:
        (seen,) = await detector.detect([grey])
        assert seen.boxes[0].label == "dog"
    for options in (
        DetectorOptions(tmp_path),
        DetectorOptions(tmp_path, ca_path=encrypted.stranger),
    ):
        async with using(open_detector(encrypted.url, options)) as detector:
            with pytest.raises(ServiceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                await detector.check()
    with pytest.raises(PermanentError, match=r"AI_CA_PATH=.*gone.pem cannot be read"):
        open_detector(encrypted.url, DetectorOptions(tmp_path, ca_path=tmp_path / "gone.pem"))


async def test_a_detect_service_is_trusted_in_the_same_way(
    encrypted: Encrypted, tmp_path: Path
) -> None:
    async def health(_: web.Request) -> web.Response:
        return web.json_response({"model_loaded": True, "model": "remote", "version": "7"})

    context = server_side(encrypted.ca, encrypted.ca.with_suffix(".key"))
    async with serve(health, health, context) as url:
        for ca_path, trusted in ((encrypted.ca, True), (encrypted.stranger, False)):
            options = DetectorOptions(tmp_path, ca_path=ca_path)
            async with using(open_detector(url, options)) as detector:
                if trusted:
                    assert (await detector.check()).version == "7"
                else:
                    with pytest.raises(ServiceUnavailableError, match="CERTIFICATE_VERIFY"):
                        await detector.check()
        with pytest.raises(PermanentError, match="AI_CA_PATH"):
            open_detector(url, DetectorOptions(tmp_path, ca_path=tmp_path / "gone.pem"))
