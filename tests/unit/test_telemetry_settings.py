"""Settings of traces: OpenTelemetry's names, off by default, and nothing secret in a message."""

import subprocess
import sys

import pytest

from runtime.sections.telemetry import otlp_headers
from runtime.settings import PROJECT_ROOT, SettingsError, load_settings
from runtime.tracing import open_exporter

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


def test_no_collector_no_exporter() -> None:
    settings = load_settings(environ={})
    assert settings.otel_exporter_otlp_endpoint is None
    assert open_exporter(settings, "api") is None


def test_without_a_collector_nothing_of_it_is_loaded() -> None:
    code = (
        "import sys, agents.traces, agents.projected, api.pushes\n"
        # The Redis driver looks at its metrics; what sends spans comes with ours only.
        "ours = ('opentelemetry.exporter', 'opentelemetry.sdk.trace', 'requests')\n"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, env={"PYTHONPATH": str(PROJECT_ROOT)}, capture_output=True
    )
    assert done.stdout == b"[]\n", done.stderr


@pytest.mark.parametrize("url", ["collector:4317", "ftp://collector", "http://", "http://c:0"])
def test_an_endpoint_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=ENDPOINT):
        load_settings(environ={ENDPOINT: url})


def test_headers_are_read_as_opentelemetry_writes_them() -> None:
    assert otlp_headers("Authorization=Basic%20abc==, x-scope = a,") == {
        "authorization": "Basic abc==",
        "x-scope": "a",
    }


def test_headers_that_cannot_be_read_are_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={HEADERS: "a=1,s3cret"})
    assert "header 2 is not name=value" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_headers_are_a_secret() -> None:
    settings = load_settings(environ={HEADERS: "authorization=s3cret"})
    assert "s3cret" not in repr(settings)
    assert "authorization=s3cret" in settings.secrets
