"""`hsi services`: what runs, and control of what `hsi up` runs."""

import json
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from domain.events import ServiceAction
from hsi.happenings import visible
from hsi.remote import Answer, AsJson, Remote, Url

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Show what runs, and how; restart, stop, start, disable and enable what `hsi up` runs."
    " These commands show HSI_API_KEY, or the first of API_KEYS, which must be an"
    " administrator's.",
)

_STYLES: Final = {
    "healthy": "green",
    "running": "green",
    "off": "dim",
    "failed": "bold red",
    "unhealthy": "bold red",
}

Name = Annotated[str, typer.Argument(help="A service, as `hsi services list` names it.")]


@app.command("list")
def list_services(
    category: Annotated[
        str | None, typer.Option(help="Only these: infrastructure, ai or monitoring.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show every service that this installation uses, and how it is.

    Ends with 0, with 1 when the API does not answer.

    Examples: `hsi services list` · `hsi services list --category ai --json`
    """
    told = Remote(url).ask("/api/system/services", category=category)
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    table = Table("service", "", "up", "restarts", "process", "what it says", box=None)
    for service in told["services"]:
        restarts = str(service["restart_count"]) if service["process"] else ""
        table.add_row(
            Text(visible(service["name"])),
            Text(service["status"], _STYLES.get(service["status"], "yellow")),
            _duration(service["uptime_seconds"]),
            restarts,
            Text(visible(service["process"] or ""), "dim"),
            Text(visible(service["message"])),
        )
    Console(highlight=False).print(table)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


@app.command()
def restart(service: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Drain a service's process and start it again; nothing that it has in hand is lost.

    Ends with 0 once it answers again, with 1 when it does not, is disabled, or is not ours.

    Example: `hsi services restart detect`
    """
    _ask(service, "restart", url, as_json=as_json)


@app.command()
def stop(service: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Stop a service until `start`, or until the next `hsi up`; its work waits in the log.

    Ends with 0 once it has stopped, else with 1.

    Example: `hsi services stop refine`
    """
    _ask(service, "stop", url, as_json=as_json)


@app.command()
def start(service: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Start a service that was stopped.

    Ends with 0 once it answers, else with 1.

    Example: `hsi services start refine`
    """
    _ask(service, "start", url, as_json=as_json)


@app.command()
def disable(service: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Stop a service until `enable`: the next `hsi up` does not start it either.

    Ends with 0 once it has stopped, else with 1.

    Example: `hsi services disable llm`
    """
    _ask(service, "disable", url, as_json=as_json)


@app.command()
def enable(service: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Start a service that is disabled, or that has failed too often.

    Ends with 0 once it answers, else with 1.

    Example: `hsi services enable llm`
    """
    _ask(service, "enable", url, as_json=as_json)


def _ask(service: str, action: ServiceAction, url: str | None, *, as_json: bool) -> None:
    told: Answer = Remote(url).ask(f"/api/system/services/{service}/{action}", method="POST")
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    message = told["service"]["message"]
    print(f"{visible(told['message'])} ({visible(message)})")
