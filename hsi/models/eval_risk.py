"""`hsi models eval-risk`: what a language model is worth, before anyone relies on it."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from domain.errors import HsiError, ServiceUnavailableError
from hsi import language_model
from hsi.language_model import EmbeddedModel
from hsi.models.risk_asking import ask, attack_all
from hsi.models.risk_report import Report, as_json, show
from hsi.scenarios import Attack, load_attacks, load_scenes
from inference.llama_child import READ_AHEAD
from inference.llm import LlamaRiskModel, Timeouts
from inference.ports import RiskModel
from inference.prompts import load_prompt
from runtime.children import Command, spawn, stop, tail
from runtime.settings import Settings, load_settings

START_SECONDS: Final = 600.0
PATIENCE_SECONDS: Final = 600.0
"""How long one answer may take: here a slow one is a finding, not a failure."""
LOOK_SECONDS: Final = 0.2
FAILED: Final = 1

RulesOnly = Annotated[bool, typer.Option("--rules", help="Ask no model: the rules alone.")]
AllAttacks = Annotated[
    bool, typer.Option("--all-attacks", help="Ask about every attack, not only about a few.")
]
Spearman = Annotated[
    float,
    typer.Option(min=-1, max=1, help="Rank correlation to be reached, else it ends with 1."),
]
InBand = Annotated[
    float,
    typer.Option(min=0, max=1, help="Share of scores in band to reach, else it ends with 1."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
EnvFile = Annotated[
    Path | None, typer.Option("--env-file", help="Read this file instead of .env.")
]


def eval_risk(
    rules: RulesOnly = False,
    all_attacks: AllAttacks = False,
    min_spearman: Spearman = 0.8,
    min_in_band: InBand = 0.6,
    as_json_: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Ask the configured language model about labelled scenes and attacks; show what it is worth.

    Asks NEMOTRON_URL, or else starts the embedded model for the time of the evaluation. Ends with
    0 when the scores in force reach both limits and no attack took one below the rules' floor,
    with 1 otherwise or when the model does not answer.

    Examples: `hsi models eval-risk` · `hsi models eval-risk --rules` ·
    `hsi models eval-risk --all-attacks --json > worth.json`
    """
    settings = load_settings(env_file)
    console = Console(stderr=True)
    _, attacks = load_attacks()
    asked = [a for a in attacks if a.reaches_the_model and (rules or all_attacks or a.quick)]

    def tell(what: str) -> None:
        console.print(f"[dim]{what}[/]", highlight=False)

    report = asyncio.run(_evaluate(settings, asked, tell, rules=rules))
    if as_json_:
        print(as_json(report))
    else:
        show(Console(), report)
    if problems := report.problems(min_spearman, min_in_band):
        for problem in problems:
            console.print(f"[bold red]not good enough:[/] {problem}", highlight=False)
        raise typer.Exit(FAILED)


async def _evaluate(
    settings: Settings, attacks: list[Attack], tell: Callable[[str], None], *, rules: bool
) -> Report:
    version, scenes = load_scenes()
    target, _ = load_attacks()
    async with contextlib.AsyncExitStack() as stack:
        model = None if rules else await _open(settings, stack, tell)
        name = "rules alone" if model is None else await model.check()
        said = await ask(model, scenes, tell)
        attacked = await attack_all(model, target, attacks, tell)
    return Report(
        model=name,
        prompt="" if rules else load_prompt().version,
        scenes=version,
        said=said,
        target=target,
        attacked=attacked,
    )


async def _open(
    settings: Settings, stack: contextlib.AsyncExitStack, tell: Callable[[str], None]
) -> RiskModel:
    """Open the model that the pipeline would ask; an embedded one runs until the stack closes."""
    patience = max(PATIENCE_SECONDS, settings.nemotron_read_timeout)
    timeouts = Timeouts(settings.ai_connect_timeout, patience, settings.ai_health_timeout)
    url, key, api = settings.nemotron_url, settings.nemotron_api_key, settings.nemotron_api
    if url is not None:
        secret = key.get_secret_value() if key else None
        trust = settings.ai_ca_path
        model = LlamaRiskModel(url, api=api, api_key=secret, timeouts=timeouts, ca_path=trust)
        stack.push_async_callback(model.close)
        return model
    chosen = language_model.choose(settings)
    if chosen is None:
        raise HsiError(
            "no language model is configured (NEMOTRON_URL is not set, EMBEDDED_LLM is off):"
            " set one, or evaluate the rules with --rules"
        )
    if not chosen.is_there:
        raise HsiError(
            f"the embedded model {chosen.artefact.name} is not here: fetch it with"
            " `hsi models fetch risk`, set NEMOTRON_URL, or evaluate the rules with --rules"
        )
    tell(f"loading {chosen.artefact.name}")
    log = stack.enter_context(_running(chosen))
    url = f"http://{language_model.ADDRESS}:{chosen.port}"
    model = LlamaRiskModel(url, api_key=chosen.key, timeouts=timeouts)
    stack.push_async_callback(model.close)
    await _loaded(model, log)
    return model


@contextlib.contextmanager
def _running(chosen: EmbeddedModel) -> Iterator[Path]:
    """Run the embedded server; yields its log."""
    with tempfile.TemporaryDirectory(prefix="hsi-eval-") as folder:
        log, key_file = Path(folder) / "llm.log", Path(folder) / "llm.key"
        language_model.write_key(chosen, key_file)
        child = spawn(Command(language_model.command_line(chosen, key_file), log))
        try:
            yield log
        finally:
            stop(child, ((signal.SIGTERM, 10.0),))


async def _loaded(model: RiskModel, log: Path) -> None:
    """Wait until the server has loaded its weights and read the prompt ahead."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(ServiceUnavailableError):
                    await model.check()
                    if READ_AHEAD in tail(log):
                        return
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError as error:
        raise HsiError(
            f"the embedded model did not load within {START_SECONDS:g} s; it said:\n{tail(log)}"
        ) from error
