"""What happens on the WebSocket channels of this process."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import Metric

from api.broadcast import Channel
from api.metric_names import counter, gauge

_COUNTERS: Final = {
    "connections": "hsi_websocket_connections_total",
    "refused": "hsi_websocket_refused_clients_total",
    "messages": "hsi_websocket_messages_total",
    "delivered": "hsi_websocket_delivered_messages_total",
    "replayed": "hsi_websocket_replayed_messages_total",
    "fell_behind": "hsi_websocket_fell_behind_total",
    "cut_slow": "hsi_websocket_cut_clients_total",
}


def socket_metrics(channels: Iterable[Channel]) -> Iterator[Metric]:
    """Give the clients and messages of each channel."""
    found = list(channels)
    clients = gauge("hsi_websocket_clients")
    for channel in found:
        clients.add_metric([channel.name], len(channel.connections))
    yield clients
    for attribute, name in _COUNTERS.items():
        family = counter(name)
        for channel in found:
            family.add_metric([channel.name], getattr(channel.metrics, attribute))
        yield family
