"""Continuity: notices that the log lost its end, before anything is built on what is gone.

A Redis that is killed may come back without the last entries it took in (with `appendfsync
everysec`, or from a replica that lagged). Whoever read or appended these remembers what the log
does not. So every process keeps the newest position it knows of each stream, and looks for these
entries whenever it connects to a server that it does not know (a restarted one, a node of a
cluster), and once more a little later: an answer of the server's former life may have been on its
way meanwhile. On a cluster it knows no node any more once another one may answer for a slot.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import AskError

from domain.errors import HsiError, ServiceUnavailableError
from runtime.tasks import end
from streams.envelope import START, Position
from streams.names import trimmed_key

Execute = Callable[..., Awaitable[Any]]
"""Sends one Redis command and answers its reply."""

SECOND_LOOK_SECONDS = 6.0
"""What the connections to the dead server still held has been read and handled by then."""


class LostEndError(HsiError):
    """The log has lost entries that this process knows: what it remembers is no longer true."""


class Continuity:
    """What one process knows of each stream's end."""

    def __init__(self) -> None:
        self._run_ids: set[bytes] = set()
        """Each names one run of one server in which what we know was found."""
        self._newest: dict[str, Position] = {}
        self._lost: LostEndError | None = None
        self._second_look: asyncio.Task[None] | None = None
        self.execute: Execute | None = None
        """Sends a command on any connection, for the second look."""

    def saw(self, name: str, position: Position) -> None:
        """Remember that the stream under key `name` holds an entry at `position`.

        Raises LostEndError when an entry that this process knew turned out to be lost.
        """
        if self._lost is not None:
            raise self._lost
        if position > self._newest.get(name, START):
            self._newest[name] = position

    async def on_connect(self, connection: Any) -> None:  # noqa: ANN401 - the driver's own
        """Log in as the driver does; then, on a server new to us, look for what we know.

        Raises LostEndError, on this and every later connection, when something is gone.
        """
        await connection.on_connect()

        async def execute(*command: str) -> Any:  # noqa: ANN401 - the driver's own
            await connection.send_command(*command)
            return await connection.read_response()

        known = self._run_ids
        run_id = _run_id_in(await execute("INFO", "server"))
        if run_id in known:
            return
        if self._newest:
            try:
                await self._look(execute)
            except LostEndError as error:
                self._lost = error
                await connection.disconnect()
                raise
            self._plan_second_look()
        known.add(run_id)

    def moved(self) -> None:
        """Know no server any more: others of a cluster may answer from now on.

        One of them may be a replica that lagged when it was made a primary.
        """
        self._run_ids = set()

    async def close(self) -> None:
        """Give up a second look that is still to come."""
        await end(*filter(None, (self._second_look,)))

    async def _look(self, execute: Execute) -> None:
        # A copy: other connections go on reading meanwhile.
        for name, position in list(self._newest.items()):
            try:
                lost = await is_lost(execute, name, position)
            except AskError:
                continue  # This stream lies on another node, which is asked when we connect to it.
            if lost:
                raise LostEndError(
                    f"the log was restarted and has lost its end: {name} no longer holds "
                    f"{position}, which this process has read; it must start again"
                )

    def _plan_second_look(self) -> None:
        if self._second_look is None or self._second_look.done():
            self._second_look = asyncio.create_task(self._look_again(), name="continuity")

    async def _look_again(self) -> None:
        while self.execute is not None and self._lost is None:
            await asyncio.sleep(SECOND_LOOK_SECONDS)
            try:
                await self._look(self.execute)
            except LostEndError as error:
                self._lost = error
            except ServiceUnavailableError:
                continue
            return


async def is_lost(execute: Execute, name: str, position: Position) -> bool:
    """Say whether an entry that was in a stream is gone though nobody deleted or trimmed it."""
    if position == START or not await execute("EXISTS", name):
        return position != START
    if await execute("XRANGE", name, str(position), str(position)):
        return False
    info = _pairs(await execute("XINFO", "STREAM", name))
    if position > Position.parse(info[b"last-generated-id"]):
        return True
    if position <= Position.parse(info[b"max-deleted-entry-id"]):
        return False
    return not await _was_trimmed(execute, name, position, whole=_keeps_all(info))


async def _was_trimmed(execute: Execute, name: str, position: Position, *, whole: bool) -> bool:
    """Say whether a missing entry was trimmed, as far as the stream tells.

    One that has lost all that it held and went on since looks like a trimmed one.
    """
    if whole:
        return False
    mark = await execute("GET", trimmed_key(name))
    if mark is not None:
        return position < Position.parse(mark)
    # Trimmed by other hands: then it begins behind the position.
    first = await execute("XRANGE", name, "-", "+", "COUNT", "1")
    return not first or Position.parse(first[0][0]) > position


async def is_whole(execute: Execute, name: str) -> bool:
    """Say whether all that a stream ever took in is in it, or was trimmed by the archive."""
    if not await execute("EXISTS", name):
        return True
    return (
        _keeps_all(_pairs(await execute("XINFO", "STREAM", name)))
        or await execute("GET", trimmed_key(name)) is not None
    )


def _keeps_all(info: dict[bytes, Any]) -> bool:
    return int(info[b"entries-added"]) == int(info[b"length"])


def _run_id_in(info: Any) -> bytes:  # noqa: ANN401 - bytes, or already parsed
    for line in bytes(info).splitlines():
        if line.startswith(b"run_id:"):
            return line.partition(b":")[2]
    return b""


def _pairs(reply: Any) -> dict[bytes, Any]:  # noqa: ANN401 - a flat list, or already parsed
    if isinstance(reply, dict):
        return {key.encode() if isinstance(key, str) else key: v for key, v in reply.items()}
    return dict(zip(reply[::2], reply[1::2], strict=True))
