"""The tables of docs/configuration.md, made from the settings' schema."""

from collections.abc import Iterator
from typing import Final

from runtime.hot import HOT
from runtime.setting_text import shown
from runtime.settings import Settings
from runtime.settings_report import allowed

BEGIN: Final = "<!-- settings: made by `hsi config --docs` -->"
END: Final = "<!-- end of settings -->"


def settings_tables() -> str:
    """Return one table a section: name, default, range, meaning, and when a change counts."""
    return "\n".join([BEGIN, *_lines(), "", END]) + "\n"


def with_tables(page: str) -> str:
    """Return a page with the part between the two marks made anew."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + settings_tables().rstrip("\n") + tail


def _lines() -> Iterator[str]:
    schema = Settings.model_json_schema()["properties"]
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "section" in extra:
            yield f"\n### {extra['section']}\n"
            yield "| setting | default | allowed | meaning | a change counts |"
            yield "|---|---|---|---|---|"
        default = "(this machine's)" if field.default_factory else shown(field.default)
        cells = (
            f"`{name.upper()}`",
            f"`{default}`" if default else "–",
            allowed(schema[name]),
            field.description or "",
            "at once" if name in HOT else "after a restart",
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
