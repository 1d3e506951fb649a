"""The page tells of a picture that nobody could look at, and later what became of it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.browser import CHROMIUM, Page, browsing
from support.histories import unverified
from support.serving import Served, served, story

from domain.events import ImageReceived, RiskAssessed


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
async def test_the_page_tells_of_what_waits_and_what_became_of_it(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    base = tmp_path / "cameras"
    base.mkdir()
    told = story("front", 1)
    received = next(event for event in told.events if isinstance(event, ImageReceived))
    async with served(valkey_url, database_url, base, projecting=True) as api:
        await api.register("front")
        async with browsing(str(api.client.make_url("/")), tmp_path / "profile") as page:
            await page.until("document.querySelector('#live')?.textContent === 'live'")
            assert await page.evaluate("document.querySelector('#unverified').hidden")
            await api.append(
                received, replace(unverified(received), captured_at=datetime.now(UTC))
            )
            said = "document.querySelector('article.unverified .summary')?.textContent"
            await page.until(f"{said}?.startsWith('Nobody knows what it shows')")
            rest = [
                replace(event, alert_within_seconds=60)
                if isinstance(event, RiskAssessed)
                else event
                for event in told.events
                if event is not received
            ]
            await api.append(*rest)
            await page.until("document.querySelector('#timeline article')")
            # Assessed long after its picture: it is shown, but not pointed at.
            late = "[...document.querySelectorAll('#timeline .late')].map(e => e.textContent)"
            assert await page.evaluate(late) == ["late", "too old to alert"]
            assert not await page.evaluate("document.querySelector('#timeline article.new')")
            await page.until(f"{said}?.includes('it belongs to an event')")
            await what_is_told_while_the_list_is_fetched_stays(api, page)


HOLD = """
const ask = window.fetch;
window.fetch = async (url, options) => {
  const answered = await ask(url, options);
  if (String(url).startsWith("/api/events?")) await new Promise((go) => (window.release = go));
  return answered;
};
document.querySelector("#filters").dispatchEvent(new Event("change"));
"""


async def what_is_told_while_the_list_is_fetched_stays(api: Served, page: Page) -> None:
    """The list was answered before an event was told, and shown after it."""
    await page.evaluate(HOLD)
    await page.until("window.release")
    told = story("front", 2)
    await api.append(*told.events)
    shown = f"document.querySelector('article[data-id=\"{told.event_id}\"]')"
    await page.until(shown)
    await page.evaluate("window.before = document.querySelector('#timeline').firstChild")
    await page.evaluate("window.release()")
    await page.until("!window.before.isConnected")
    await page.until("document.querySelectorAll('#timeline article').length === 2")
    assert await page.evaluate(f"Boolean({shown})")
