"""`hsi keys`: who may call the API."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hsi.happenings import visible
from hsi.remote import AsJson, Remote, Url

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Make, list and revoke keys for the API. These commands show HSI_API_KEY, or the first"
    " of API_KEYS, which must be an administrator's.",
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is: the audit shows this name.")],
    role: Annotated[
        str, typer.Option(help="viewer (reads), operator (changes) or admin (keys, cleanup).")
    ] = "viewer",
    camera: Annotated[
        list[str] | None,
        typer.Option(help="Id of a camera that the key may see; several times for several."),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it once; nobody can show it again.

    Keys count while API_KEY_ENABLED=true. Ends with 1 when the name is taken.

    Examples: `hsi keys create tablet` · `hsi keys create ci --role operator` ·
    `hsi keys create gate-guard --camera gate --camera drive`
    """
    body = {"name": name, "role": role} | ({"cameras": camera} if camera else {})
    made = Remote(url).ask("/api/keys", method="POST", body=body)
    if as_json:
        print(json.dumps(made, indent=2, ensure_ascii=False))
        return
    print(made["key"])
    note = f"{made['role']} key {made['id']} of {visible(made['name'])}: keep it, it is shown once"
    Console(stderr=True, highlight=False).print(note, markup=False, style="dim")


@app.command("list")
def list_keys(url: Url = None, as_json: AsJson = False) -> None:
    """Show the keys that count; a key itself is never shown again.

    Examples: `hsi keys list` · `hsi keys list --json`
    """
    told = Remote(url).ask("/api/keys")
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    table = Table("id", "name", "role", "cameras", "made by", "made at", box=None, pad_edge=False)
    for key in told["keys"]:
        cameras = "all" if key["cameras"] is None else ", ".join(key["cameras"])
        made_by = key["created_by"] or "API_KEYS"
        cells = (key["id"], key["name"], key["role"], cameras, made_by, key["created_at"] or "")
        table.add_row(*(Text(visible(cell)) for cell in cells))
    Console(highlight=False).print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Id or name of the key.")], url: Url = None
) -> None:
    """Revoke a key: it and its sessions count no more, at once.

    Ends with 1 when there is no such key.

    Examples: `hsi keys revoke tablet` · `hsi keys revoke key_5f0c9d1e2b3a4c5d`
    """
    remote = Remote(url)
    known = {each["name"]: each["id"] for each in remote.ask("/api/keys")["keys"]}
    key_id = known.get(key, key)
    remote.ask(f"/api/keys/{key_id}", method="DELETE")
    print(f"revoked {visible(key_id)}")
