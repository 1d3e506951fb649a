"""The page's panel of services: its buttons work through to the supervisor."""

from pathlib import Path

import pytest
from support.browser import CHROMIUM, Page, browsing
from support.serving import served
from support.supervising import SERVICES, supervising
from support.watching import eventually

ROW = "document.querySelector('#service-rows [data-service=detect]')"


async def buttons(page: Page) -> list[str]:
    """Return what can be done to the service now."""
    found: list[str] = await page.evaluate(
        f"[...{ROW}.querySelectorAll('button')].map((button) => button.textContent)"
    )
    return found


async def press(page: Page, action: str) -> None:
    await page.evaluate(
        f"[...{ROW}.querySelectorAll('button')]"
        f".find((button) => button.textContent === '{action}').click()"
    )


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
async def test_the_buttons_of_the_panel(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    async with (
        served(valkey_url, database_url, tmp_path) as api,
        supervising(valkey_url, tmp_path) as supervisor,
    ):

        async def heard() -> bool:
            word = api.services.supervision.word("detect")
            return word is not None and word.status == "running"

        await eventually(heard, seconds=20)
        async with browsing(str(api.client.make_url("/")), tmp_path / "profile") as page:
            await page.until("document.querySelector('#live.good')")
            await page.evaluate("document.querySelector('#services summary').click()")
            await page.until(f"{ROW}?.textContent.includes('running')")
            assert await buttons(page) == ["restart", "stop", "disable"]
            api_row = "document.querySelector('#service-rows [data-service=api]')"
            assert await page.evaluate(f"{api_row}.querySelectorAll('button').length") == 0
            await press(page, "disable")
            await page.until(f"{ROW}?.textContent.includes('disabled by anonymous')")
            assert await buttons(page) == ["enable"]
            await press(page, "enable")
            await page.until(f"{ROW}?.textContent.includes('running')")
            assert supervisor.starts == [SERVICES, ("watch",), SERVICES]
            supervisor.program = "exit 3"
            await press(page, "restart")
            await page.until("!document.querySelector('#error').hidden")
            said = await page.evaluate("document.querySelector('#error').textContent")
            assert "detect is starting after the restart: ended with exit status 3" in said
