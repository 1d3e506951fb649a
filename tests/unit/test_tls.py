"""TLS by settings: names old and new, a certificate of one's own, its life."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from runtime.settings import load_settings
from runtime.tls import TlsError, TlsPlan, keep_own, server_context, tls_plan


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan_of(**environ: str) -> TlsPlan | None:
    return tls_plan(load_settings(environ=environ))


FILES = {"TLS_CERT_PATH": "/etc/new.crt", "TLS_KEY_PATH": "/etc/new.key"}
OLD_FILES = {"TLS_CERT_FILE": "/etc/old.crt", "TLS_KEY_FILE": "/etc/old.key"}


def test_nothing_set_is_plain_http() -> None:
    assert plan_of() is None
    assert plan_of(TLS_MODE="disabled", TLS_ENABLED="true", **FILES) is None


def test_the_earlier_names_mean_the_same(tmp_path: Path) -> None:
    assert plan_of(TLS_ENABLED="true", **OLD_FILES) == TlsPlan(
        mode="provided",
        certificate=Path("/etc/old.crt"),
        key=Path("/etc/old.key"),
        authority=None,
        min_version="TLSv1.2",
    )
    generated = plan_of(TLS_ENABLED="true", TLS_AUTO_GENERATE="true")
    assert generated == plan_of(TLS_MODE="self_signed")
    assert generated is not None
    assert generated.certificate == tmp_path / "data/certs/server.crt"
    mutual = {"TLS_VERIFY_CLIENT": "true", "TLS_CA_FILE": "/etc/ca.crt"}
    told = plan_of(TLS_ENABLED="true", **OLD_FILES, **mutual)
    assert told is not None
    assert told.authority == Path("/etc/ca.crt")


def test_the_earlier_names_are_warned_about_and_lose() -> None:
    settings = load_settings(
        environ={"TLS_MODE": "provided", "TLS_AUTO_GENERATE": "true", **FILES, **OLD_FILES}
    )
    plan = tls_plan(settings)
    assert plan is not None
    assert (plan.mode, plan.certificate) == ("provided", Path("/etc/new.crt"))
    said = [line for line in settings.warnings if "deprecated" in line]
    assert said == [
        "TLS_AUTO_GENERATE is deprecated: write TLS_MODE=self_signed instead;"
        " TLS_MODE is given as well, and wins",
        "TLS_CERT_FILE is deprecated: write TLS_CERT_PATH instead;"
        " TLS_CERT_PATH is given as well, and wins",
        "TLS_KEY_FILE is deprecated: write TLS_KEY_PATH instead;"
        " TLS_KEY_PATH is given as well, and wins",
    ]
    assert not load_settings(environ={"TLS_MODE": "provided", **FILES}).warnings


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"TLS_MODE": "provided"}, "TLS_CERT_PATH"),
        ({"TLS_MODE": "self_signed", "TLS_VERIFY_CLIENT": "true"}, "TLS_CA_PATH"),
    ],
)
def test_what_is_missing_is_named(environ: dict[str, str], says: str) -> None:
    with pytest.raises(TlsError, match=says):
        plan_of(**environ)


def test_a_certificate_of_its_own_is_made_once_and_renewed(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certs/server.crt", tmp_path / "certs/server.key"
    assert keep_own(certificate, key) is True
    assert key.stat().st_mode & 0o777 == 0o600
    made = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    assert {ip_address("127.0.0.1"), ip_address("::1")} <= set(addresses)
    # Kept until thirty days before its end, then made anew.
    end = made.not_valid_after_utc
    assert keep_own(certificate, key, lambda: end - timedelta(days=31)) is False
    assert x509.load_pem_x509_certificate(certificate.read_bytes()) == made
    assert keep_own(certificate, key, lambda: end - timedelta(days=29)) is True
    assert x509.load_pem_x509_certificate(certificate.read_bytes()) != made


def test_a_start_killed_between_the_two_files_is_made_good(tmp_path: Path) -> None:
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"
    keep_own(certificate, key)
    old = certificate.read_bytes()
    certificate.unlink()
    keep_own(certificate, key)
    certificate.write_bytes(old)  # as if only the new key had been written
    assert keep_own(certificate, key, lambda: datetime.now(UTC)) is True
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)


@pytest.mark.parametrize("broken", ["certificate", "key", "authority"])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, broken: str) -> None:
    files = {name: tmp_path / name for name in ("certificate", "key", "authority")}
    keep_own(files["certificate"], files["key"])
    files["authority"].write_bytes(files["certificate"].read_bytes())
    files[broken].write_text("this is no PEM file")
    plan = TlsPlan(mode="provided", min_version="TLSv1.3", **files)
    with pytest.raises(TlsError, match=str(files[broken])):
        server_context(plan)
