"""The faust app: agents and timers over channels of ours, without a broker."""

from typing import Any

import faust
from faust.app.base import BootStrategy


class _NoKafka(BootStrategy):
    """Starts agents and timers only: our channels are fed by Redis consumer groups."""

    enable_kafka = False
    enable_web = False
    enable_sensors = False


class _App(faust.App):
    BootStrategy = _NoKafka

    async def on_first_start(self) -> None:
        """Make no folders: faust keeps tables in them, beside the process; we have none."""


def make_app(name: str) -> Any:  # noqa: ANN401 - faust is untyped here
    """Return an app; agents run once it is started and `flow_control.resume()` was called."""
    # The address is required and never asked.
    return _App(name, broker="kafka://127.0.0.1:1", autodiscover=False, web_enabled=False)
