"""What the runtime configuration reference says of each variable: default and range, as facts.

`None` as a default: the reference gives none. Lists are JSON, as they stand in a file. Only what
the reference says in its tables is here; what we mean to do otherwise stands, with its reason, in
docs/configuration.md under "Where this differs from the reference".
"""

from typing import Final, NamedTuple


class Said(NamedTuple):
    """One row of the reference."""

    default: str | None = None
    low: float | None = None
    high: float | None = None


REFERENCE: Final = {
    "DATABASE_URL": Said(
        "postgresql+asyncpg://security:security_dev_password@localhost:5432/security"
    ),
    "REDIS_URL": Said("redis://localhost:6379/0"),
    "APP_NAME": Said("Home Security Intelligence"),
    "APP_VERSION": Said("0.1.0"),
    "DEBUG": Said("false"),
    "API_HOST": Said("0.0.0.0"),
    "API_PORT": Said("8000"),
    "CORS_ORIGINS": Said('["http://localhost:3000", "http://localhost:5173"]'),
    "FOSCAM_BASE_PATH": Said("/export/foscam"),
    "FILE_WATCHER_POLLING": Said("false"),
    "FILE_WATCHER_POLLING_INTERVAL": Said("1.0", 0.1, 30),
    "RTDETR_URL": Said("http://localhost:8090"),
    "NEMOTRON_URL": Said("http://localhost:8091"),
    "FLORENCE_URL": Said("http://localhost:8092"),
    "CLIP_URL": Said("http://localhost:8093"),
    "ENRICHMENT_URL": Said("http://localhost:8094"),
    "AI_CONNECT_TIMEOUT": Said("10.0", 1, 60),
    "AI_HEALTH_TIMEOUT": Said("5.0", 1, 30),
    "RTDETR_READ_TIMEOUT": Said("60.0", 10, 300),
    "NEMOTRON_READ_TIMEOUT": Said("120.0", 30, 600),
    "DETECTION_CONFIDENCE_THRESHOLD": Said("0.5", 0, 1),
    "FAST_PATH_CONFIDENCE_THRESHOLD": Said("0.90", 0, 1),
    "FAST_PATH_OBJECT_TYPES": Said('["person"]'),
    "BATCH_WINDOW_SECONDS": Said("90", 1, 3600),
    "BATCH_IDLE_TIMEOUT_SECONDS": Said("30", 1, 3600),
    "RETENTION_DAYS": Said("30", 1, 365),
    "LOG_RETENTION_DAYS": Said("7", 1, 365),
    "GPU_POLL_INTERVAL_SECONDS": Said("5.0", 1, 60),
    "GPU_STATS_HISTORY_MINUTES": Said("60", 1, 1440),
    "API_KEY_ENABLED": Said("false"),
    "API_KEYS": Said("[]"),
    "TLS_MODE": Said("disabled"),
    "TLS_CERT_PATH": Said(),
    "TLS_KEY_PATH": Said(),
    "TLS_CA_PATH": Said(),
    "TLS_VERIFY_CLIENT": Said("false"),
    "TLS_MIN_VERSION": Said("TLSv1.2"),
    "TLS_ENABLED": Said("false"),
    "TLS_CERT_FILE": Said(),
    "TLS_KEY_FILE": Said(),
    "TLS_CA_FILE": Said(),
    "TLS_AUTO_GENERATE": Said("false"),
    "TLS_CERT_DIR": Said("data/certs"),
    "DEDUPE_TTL_SECONDS": Said("300", 60, 3600),
    "LOG_LEVEL": Said("INFO"),
    "LOG_FILE_PATH": Said("data/logs/security.log"),
    "LOG_FILE_MAX_BYTES": Said("10485760"),
    "LOG_FILE_BACKUP_COUNT": Said("7"),
    "LOG_DB_ENABLED": Said("true"),
    "LOG_DB_MIN_LEVEL": Said("DEBUG"),
    "VITE_API_BASE_URL": Said("http://localhost:8000"),
    "VITE_WS_BASE_URL": Said("ws://localhost:8000"),
    "FRONTEND_PORT": Said("5173"),
}
