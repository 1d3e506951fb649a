"""The page of a server that asks for keys: sign in, look, change something, sign out."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.browser import CHROMIUM, Page, browsing
from support.serving import served, story

from api.access_keys import KeyRing, digest_of

KEY = "the-key-of-the-settings"


async def give(page: Page, key: str) -> None:
    """Fill the form in and send it off."""
    await page.evaluate(f"document.querySelector('#key').value = '{key}'")
    await page.evaluate("document.querySelector('#login').requestSubmit()")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
async def test_sign_in_look_change_sign_out(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    base = tmp_path / "cameras"
    base.mkdir()
    ring = KeyRing([digest_of(KEY)])
    async with served(
        valkey_url,
        database_url,
        base,
        config=lambda config: replace(config, api_key_enabled=True),
        projecting=True,
        keys=ring,
    ) as api:
        await api.register("front")
        await api.append(*story("front", 1).events)
        async with browsing(str(api.client.make_url("/")), tmp_path / "profile") as page:
            await page.until("document.querySelector('#login:not([hidden])')")
            assert await page.evaluate("document.querySelectorAll('article').length") == 0
            await give(page, "not-the-key")
            said = "document.querySelector('#refused').textContent"
            await page.until(f"{said}.includes('not known')")
            await give(page, KEY)
            await page.until("document.querySelector('article')")
            assert await page.evaluate("document.querySelector('#login').hidden") is True
            assert await page.evaluate("document.cookie") == ""
            await page.evaluate("document.querySelector('article .tools button').click()")
            await page.until("document.querySelector('article.reviewed')")
            await page.evaluate("document.querySelector('#sign-out').click()")
            await page.until("document.querySelector('#login:not([hidden])')")
