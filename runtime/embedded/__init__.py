"""Embedded Valkey and PostgreSQL: what runs when REDIS_URL and DATABASE_URL are not set."""

from runtime.embedded.folders import AlreadyRunningError, EmbeddedError
from runtime.embedded.servers import EmbeddedServers

__all__ = ["AlreadyRunningError", "EmbeddedError", "EmbeddedServers"]
