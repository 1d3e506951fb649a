"""The page's scripts are checked against the API's document: a wrong name does not pass."""

import re
import shutil
from pathlib import Path

from support.web_tools import WEB, WebTools

from runtime.settings import PROJECT_ROOT

RENEW = "run: make interface"
TSC = "typescript/bin/tsc"
MUTANTS = {
    "services.js": ("service.restart_count", "service.restarts"),
    "app.js": ('client.get("/api/session")', 'client.get("/api/sessions")'),
    "docs.js": ("operation.requestBody?.content", "operation.body?.content"),
}
"""Script → something in it, and what that becomes in a copy that must not pass."""
WRONG = """
import { Client } from "./client.js";
const client = new Client();
client.get("/api/events/{id}");
client.get("/api/events/{id}", { path: { name: "x" } });
client.get("/api/events", { query: { limit: "many" } });
client.get("/api/events", { query: { lmit: 1 } });
client.patch("/api/events/{id}", { path: { id: "x" }, body: { reviewd: true } });
client.delete("/api/events");
(await client.get("/api/events")).event;
"""
"""Each call is wrong in another way."""
RIGHT = """
import { Client } from "./client.js";
const client = new Client();
await client.get("/api/events");
await client.patch("/api/events/{id}", { path: { id: "x" }, body: { reviewed: true } });
(await client.get("/api/events", { query: { limit: 5 } })).events.map((event) => event.summary);
"""


def test_the_types_are_those_of_the_document(web_tools: WebTools, tmp_path: Path) -> None:
    made = tmp_path / "api.d.ts"
    arguments = ("--output", str(made), "--default-non-nullable", "false")
    document = str(PROJECT_ROOT / "docs" / "openapi.json")
    cli = "openapi-typescript/bin/cli.js"
    code, said = web_tools.run(cli, document, *arguments, folder=tmp_path)
    assert code == 0, said
    assert made.read_bytes() == (WEB / "api.d.ts").read_bytes(), RENEW


def test_the_scripts_pass_and_copies_with_a_wrong_name_do_not(
    web_tools: WebTools, tmp_path: Path
) -> None:
    for path in [*WEB.glob("*.js"), *WEB.glob("*.ts"), WEB / "tsconfig.json"]:
        shutil.copy(path, tmp_path / path.name)
    for name, (good, bad) in MUTANTS.items():
        text = (WEB / name).read_text()
        assert good in text, name
        (tmp_path / f"mutant_{name}").write_text(text.replace(good, bad, 1))
    (tmp_path / "wrong.js").write_text(WRONG)
    (tmp_path / "right.js").write_text(RIGHT)
    code, said = web_tools.run(TSC, "--project", str(tmp_path), folder=tmp_path)
    found = re.findall(r"^(\S+?)\((\d+),", said, re.MULTILINE)
    assert code != 0
    assert {name for name, _ in found} == {"wrong.js", *(f"mutant_{name}" for name in MUTANTS)}
    calls = [index for index, line in enumerate(WRONG.splitlines(), 1) if "(" in line][1:]
    assert sorted({int(line) for name, line in found if name == "wrong.js"}) == calls, said


def test_every_script_asks_to_be_checked() -> None:
    for path in WEB.glob("*.js"):
        assert path.read_text().startswith("// @ts-check\n"), path.name
