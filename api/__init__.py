"""What the outside sees: aiohttp REST and WebSocket over PostgreSQL and the log."""
