"""The page that documents the API, in a real browser."""

import json
from pathlib import Path

import pytest
from support.browser import CHROMIUM, browsing
from support.serving import served

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


async def test_the_page_lists_every_operation_and_tries_one(
    valkey_url: str, database_url: str, tmp_path: Path
) -> None:
    async with served(valkey_url, database_url, tmp_path) as api:
        await api.register("front")
        document = await api.json("/api/openapi.json")
        paths = document["paths"].values()
        names = [each["operationId"] for path in paths for each in path.values()]
        url = str(api.client.make_url("/api/docs"))
        async with browsing(url, tmp_path / "profile") as page:
            await page.until("document.getElementById('audit') || document.querySelector('nav a')")
            await page.until(f"document.getElementById({json.dumps(names[-1])})")
            missing = "".join(
                await page.evaluate(
                    f"{json.dumps(names)}.filter((name) => !document.getElementById(name))"
                )
            )
            assert missing == ""
            # Every operation can be opened, whatever its parameters and answers are.
            opened = "[...document.querySelectorAll('main > section > details')]"
            await page.evaluate(f"{opened}.forEach((each) => {{ each.open = true; }})")
            await page.until(f"{opened}.every((each) => each.querySelector('table'))")
            messages = await api.json("/api/asyncapi.json")
            for channel, told in messages["channels"].items():
                for name in told["messages"]:
                    where = f"document.getElementById('message-{channel}-{name}')"
                    assert await page.evaluate(f"{where}.querySelectorAll('tr').length") > 0, name
            form = "document.querySelector('#list_cameras form')"
            await page.evaluate(f"{form}.requestSubmit()")
            await page.until(f"{form}.querySelector('pre').textContent.includes('front')")
            said = await page.evaluate(f"{form}.querySelector('pre').textContent")
            assert said.startswith("/api/cameras\n200")
            await page.evaluate(
                "(box => { box.value = 'snapshot'; box.dispatchEvent(new Event('input')); })"
                "(document.getElementById('find'))"
            )
            shown = await page.evaluate(f"{opened}.filter((each) => each.offsetParent).length")
            assert shown == 1
