"""Settings of TLS: those of the API's own port, with their earlier names, and of the stores."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from runtime.settings_types import starts


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


TlsMode = Annotated[Literal["disabled", "self_signed", "provided"], BeforeValidator(_lower)]
TlsVersion = Literal["TLSv1.2", "TLSv1.3"]


class Tls(BaseModel):
    """The API over TLS; runtime/tls.py makes one plan of the names old and new."""

    tls_mode: TlsMode = Field(
        default="disabled",
        json_schema_extra=starts("TLS"),
        description="disabled, self_signed (a certificate of its own) or provided (TLS_CERT_PATH"
        " and TLS_KEY_PATH)",
    )
    tls_cert_path: Path | None = Field(default=None, description="PEM file of the certificate")
    tls_key_path: Path | None = Field(default=None, description="PEM file of its private key")
    tls_ca_path: Path | None = Field(
        default=None, description="PEM file of the authority of the clients' certificates"
    )
    tls_verify_client: bool = Field(
        default=False, description="Let only clients in that show a certificate of TLS_CA_PATH"
    )
    tls_min_version: TlsVersion = Field(default="TLSv1.2", description="Oldest version spoken")
    tls_cert_dir: Path = Field(
        default=Path("data/certs"), description="Folder of the certificate of its own"
    )
    tls_enabled: bool = Field(default=False, description="Deprecated: TLS_MODE=provided instead")
    tls_cert_file: Path | None = Field(
        default=None, description="Deprecated: TLS_CERT_PATH instead"
    )
    tls_key_file: Path | None = Field(default=None, description="Deprecated: TLS_KEY_PATH instead")
    tls_ca_file: Path | None = Field(default=None, description="Deprecated: TLS_CA_PATH instead")
    tls_auto_generate: bool = Field(
        default=False, description="Deprecated: TLS_MODE=self_signed instead"
    )
