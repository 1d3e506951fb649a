"""Embedded Valkey and PostgreSQL: what runs when REDIS_URL and DATABASE_URL are not set."""

from runtime.embedded.folders import AlreadyRunningError, EmbeddedError, default_state_dir
from runtime.embedded.servers import EmbeddedServers

__all__ = ["AlreadyRunningError", "EmbeddedError", "EmbeddedServers", "default_state_dir"]
