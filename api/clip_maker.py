"""Makes clips one at a time, in a thread that gives way to everything else in the process."""

import asyncio
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from domain.errors import TransientError
from inference.clip_store import ClipStore, Content, StoredClip
from inference.clips import Shot, write_clip

_NICE: Final = 15


class ClipMaker:
    """One clip at a time, whatever is asked for: encoding takes a core for seconds."""

    def __init__(self, store: ClipStore) -> None:
        self.store = store
        self._ending = threading.Event()
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="clips", initializer=_give_way)

    async def make(self, content: Content, shots: Iterable[Shot]) -> StoredClip:
        """Make a clip and keep it; raises what `write_clip` and `shots` raise."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._encoder, self._make, content, shots)

    def _make(self, content: Content, shots: Iterable[Shot]) -> StoredClip:
        frames = write_clip(self.store.part_of(content.event_id), self._until_ending(shots))
        return self.store.keep(content, frames)

    def _until_ending(self, shots: Iterable[Shot]) -> Iterator[Shot]:
        for shot in shots:
            if self._ending.is_set():
                raise TransientError("the server stops; ask for the clip again later")
            yield shot

    def close(self) -> None:
        """Break off what is being made, and return once nothing is."""
        self._ending.set()
        self._encoder.shutdown(cancel_futures=True)


def _give_way() -> None:
    # Linux has a niceness for each thread; the encoder's own threads take over this one's.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
