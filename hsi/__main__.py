"""The command line `hsi`: a table of commands, each loaded only when it is called."""

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer

from domain.errors import HsiError


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command lives and the line that `hsi --help` shows for it."""

    module: str
    attribute: str
    about: str

    def load(self) -> Any:  # noqa: ANN401 - a function or a typer.Typer
        """Import the command's module and return the command."""
        return getattr(import_module(self.module), self.attribute)


COMMANDS = {
    "up": Command("hsi.up", "up", "Run everything on this machine until Ctrl-C."),
    "agents": Command("hsi.roles", "agents", "Run one or more agent roles in this process."),
    "api": Command("hsi.roles", "api", "Run the REST and WebSocket API in this process."),
    "migrate": Command("hsi.roles", "migrate", "Bring the database to this version's schema."),
    "config": Command("hsi.config", "config", "Show every setting and where it came from."),
    "models": Command("hsi.models", "app", "Fetch, check and list model files."),
    "serve": Command("hsi.serve", "app", "Serve a model of this machine to other programs."),
    "evaluate": Command("hsi.evaluate", "app", "Try the detector on labelled pictures."),
    "why": Command("hsi.why", "why", "Tell what became of a file, or where an event came from."),
    "as-of": Command("hsi.as_of", "as_of", "Show what was in force at a past moment."),
    "projections": Command(
        "hsi.projections", "app", "Show how far the read models are; rebuild, switch back."
    ),
    "ledger": Command("hsi.ledger", "ledger", "Show how many files are in which state."),
    "dlq": Command("hsi.dlq", "app", "Look at what was parked; redrive or discard it."),
    "keys": Command("hsi.keys", "app", "Make, list and revoke keys for the API."),
    "services": Command("hsi.services", "app", "Show what runs; restart, stop, start, disable."),
    "diagnostics": Command(
        "hsi.diagnostics", "diagnostics", "Write one archive for a report of a problem."
    ),
    "enrich": Command("hsi.enrich", "app", "Add what optional services say to earlier events."),
    "trial": Command("hsi.trial", "app", "Try a candidate detector beside the one in service."),
    "scene-changes": Command(
        "hsi.scene_changes", "app", "Show what other thresholds would have said of the views."
    ),
    "archive": Command("hsi.archive", "app", "Copy the log into files, and check these."),
    "demo": Command("hsi.demo", "demo", "Play real pictures into a camera folder."),
    "replay": Command("hsi.replay", "replay", "Show what other settings would have made of it."),
    "version": Command("hsi.roles", "version", "Show the version."),
}

_ABOUT = """Home Security Intelligence: pictures from cameras become assessed events.

Examples: `hsi up` · `hsi config` · `hsi models fetch detector` · `hsi agents watch detect`
"""


def build(chosen: str | None) -> typer.Typer:
    """Return the application; only the chosen command's module is imported."""
    app = typer.Typer(
        name="hsi",
        help=_ABOUT,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def _root() -> None:
        """Keep `hsi` a group of commands whatever their number."""

    for name, entry in COMMANDS.items():
        command = entry.load() if name == chosen else _not_loaded
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, help=entry.about, no_args_is_help=True)
        elif name == chosen:
            app.command(name)(command)
        else:
            app.command(name, help=entry.about)(command)
    return app


def _not_loaded() -> None:
    raise AssertionError("only the chosen command is ever invoked")


def main() -> None:
    """Run the command that the arguments name; errors of ours are one clear message."""
    arguments = sys.argv[1:]
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else None
    try:
        build(chosen)()
    except HsiError as error:
        # Imported here: `hsi --help` must not pay for the settings.
        from runtime.settings import SettingsError, load_settings

        settings_failed = isinstance(error, SettingsError)
        if not settings_failed and load_settings().debug:
            raise
        print(f"hsi: {error}", file=sys.stderr)
        sys.exit(2 if settings_failed else 1)


if __name__ == "__main__":
    main()
