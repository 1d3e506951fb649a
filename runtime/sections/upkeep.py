"""Settings of what is kept, where, and for how long."""

from pathlib import Path

from pydantic import BaseModel, Field

from runtime.settings_types import LogLevel, starts


class Retention(BaseModel):
    """What is kept, and for how long."""

    retention_days: int = Field(
        default=30,
        ge=1,
        le=365,
        json_schema_extra=starts("Retention and archive"),
        description="Days that events, detections, pictures and GPU readings are kept",
    )
    log_retention_days: int = Field(
        default=7, ge=1, le=365, description="Days that log records are kept in the database"
    )
    archive_dir: Path | None = Field(
        default=None,
        description="Folder of the log's archive; unset: archive in HSI_STATE_DIR",
    )
    stream_keep_hours: int = Field(
        default=168,
        ge=1,
        le=8760,
        description="Hours that an archived entry stays in Redis all the same",
    )


class Logs(BaseModel):
    """What is written down about the running."""

    log_level: LogLevel = Field(
        default="INFO",
        json_schema_extra=starts("Logs"),
        description="Least level that is written",
    )
    log_file_path: Path = Field(
        default=Path("data/logs/security.log"),
        description="Rotating log file, one JSON line a record",
    )
    log_file_max_bytes: int = Field(
        default=10_485_760, ge=4096, le=2**40, description="Size from which the file is rotated"
    )
    log_file_backup_count: int = Field(
        default=7, ge=0, le=1000, description="Rotated files to keep"
    )
    log_db_enabled: bool = Field(
        default=True, description="Write log records to PostgreSQL, for /api/logs"
    )
    log_db_min_level: LogLevel = Field(
        default="DEBUG", description="Least level that is written to PostgreSQL"
    )


class Folders(BaseModel):
    """Where data lies."""

    hsi_state_dir: Path | None = Field(
        default=None,
        json_schema_extra=starts("Folders"),
        description="Where the embedded servers keep their data; unset: /var/lib/hsi for root,"
        " else ~/.local/state/hsi",
    )
