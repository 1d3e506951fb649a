"""The rules' weights: the documentation, files of other ones, and that each of them counts."""

import itertools
from pathlib import Path

import msgspec
import pytest
from support.prompt_trials import own_prompt
from support.risk_scenes import facts

from domain.errors import HsiError
from domain.events import BatchFacts
from domain.risk_rules import judge
from domain.rule_weights import RULES, RULES_VERSION, Rules, RuleWeights
from domain.scene import PARTS_OF_DAY
from hsi.whatif.rules import example, read_rules, weights
from hsi.whatif.wishes import chosen_prompt, pinned
from inference.prompts import load_prompt
from runtime.settings import PROJECT_ROOT

SCENES = [
    facts(*labels, part=part, dwell=dwell, days=days, times=times)
    for labels, part, dwell, (days, times) in itertools.product(
        (
            ("person",),
            ("person", "person"),
            *((("person",) * count) for count in (3, 4)),
            ("person", "car"),
            ("person", "knife"),
            ("car",),
            ("bear",),
            ("cat",),
            ("bench",),
        ),
        PARTS_OF_DAY,
        (0, 15, 30, 60, 180),
        ((2, 2), (3, 0), (3, 3)),
    )
]


def written(folder: Path, text: str) -> Path:
    path = folder / "weights.toml"
    path.write_text(text)
    return path


def others(value: object) -> list[object]:
    """Return the value with each number in it a little different, one at a time."""
    match value:
        case float():
            return [value + 0.3]
        case int():
            return [value + 1]
        case tuple():
            return [
                (*value[:number], value[number] + 1, *value[number + 1 :])
                for number in range(len(value))
            ]
        case msgspec.Struct():
            return [
                msgspec.structs.replace(value, **{name: getattr(value, name) + 1})
                for name in value.__struct_fields__
            ]
    raise AssertionError(value)


def pictured(one: BatchFacts, score: float) -> BatchFacts:
    """Return the same, seen in one picture only and this clearly."""
    seen = [msgspec.structs.replace(o, pictures=1, best_score=score) for o in one.objects]
    return msgspec.structs.replace(one, objects=tuple(seen))


@pytest.mark.parametrize("name", RuleWeights.__struct_fields__)
def test_each_weight_counts_and_says_so_in_the_version(name: str) -> None:
    scenes = [(one, entry) for one in SCENES for entry in (False, True)]
    scenes += [(pictured(one, score), False) for one in SCENES[:20] for score in (0.4, 0.7)]
    verdicts = [judge(one, entry_point=entry) for one, entry in scenes]
    before = [(one.score, one.floor) for one in verdicts]
    for value in others(getattr(RULES.weights, name)):
        rules = Rules.of(msgspec.structs.replace(RULES.weights, **{name: value}))
        assert rules.version.startswith(f"{RULES_VERSION}+")
        after = [judge(one, entry_point=e, weights=rules.weights) for one, e in scenes]
        # Not only in words: some score or floor is another one.
        assert before != [(one.score, one.floor) for one in after], value
        for verdict in after:
            assert 0 <= verdict.floor <= verdict.score <= 100
            assert sum(signal.points for signal in verdict.signals) == verdict.score


def test_weights_that_sink_below_the_scale_end_at_nothing() -> None:
    low = msgspec.structs.replace(
        RULES.weights,
        new=msgspec.convert(dict.fromkeys(PARTS_OF_DAY, -100), type(RULES.weights.new)),
        floor_night=0,
    )
    verdict = judge(facts("person", part="night", days=9, times=0), entry_point=False, weights=low)
    assert (verdict.score, verdict.floor, verdict.floor_why) == (0, 0, "")
    assert verdict.signals[-1].why == "The scale begins at 0."


def test_the_documentation_lists_every_weight() -> None:
    text = (PROJECT_ROOT / "docs" / "replay.md").read_text()
    rows = [f"| `{w.name}` | `{w.default}` | {w.range} | {w.meaning} |" for w in weights()]
    assert "\n".join(rows) in text


def test_the_example_is_a_file_that_changes_nothing(tmp_path: Path) -> None:
    assert read_rules(written(tmp_path, example())) == RULES
    assert read_rules(written(tmp_path, "")).version == RULES_VERSION == "rules-1"


def test_a_part_of_a_table_leaves_the_rest(tmp_path: Path) -> None:
    one = read_rules(written(tmp_path, "knife = 31\ntime_person.night = 30\n"))
    assert one.weights.time_person == msgspec.structs.replace(RULES.weights.time_person, night=30)
    other = read_rules(written(tmp_path, "time_person = { night = 30, day = 0 }\nknife = 31"))
    assert one == other
    assert len(one.version) == len("rules-1+") + 8
    assert one.version != read_rules(written(tmp_path, "knife = 32")).version


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("knife", r"is no TOML file: Expected '='.*--rules-example"),
        ("knive = 3", r"no weight 'knive'; there are object, .*, knife, "),
        ("knife = 101", r"knife = 101: .* takes a whole number from -100 to 100; .* object, "),
        ("knife = 3.5", r"knife = 3\.5: Expected `int`, got `float`"),
        ("knife = true", r"knife = true: Expected `int`, got `bool`"),
        ("time_person.noon = 1", r"time_person = \{ noon = 1 \}: .*unknown field `noon`; .*night"),
        ("people = [1, 2]", r"people = \[1, 2\]: .*length 4.* takes 4 numbers"),
        ("dwell_seconds = [1, 5, 5, 9]", r"dwell_seconds \[1, 5, 5, 9\] must rise"),
        ("unsure_below = nan", r"unsure_below = NaN: nan is no number"),
        ("unsure_below = 1.01", r"unsure_below = 1\.01: .*a number from 0 to 1;"),
        ("floor_night = -1", r"a whole number from 0 to 100"),
        (" " * 70_000, r"more than 65536 bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_what_can(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(HsiError, match=rf"(?s)--rules .*weights\.toml.*{words}"):
        read_rules(written(tmp_path, text))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(HsiError, match=r"--rules .*none\.toml cannot be read: No such file"):
        read_rules(tmp_path / "none.toml")


def test_a_prompt_is_checked_before_anything_runs(tmp_path: Path) -> None:
    own = own_prompt(tmp_path)
    assert chosen_prompt(None, refine=False) is None
    found = chosen_prompt(str(own), refine=True)
    assert found is not None
    assert pinned(found) == f"own-1 {found.sha256()}"
    assert chosen_prompt("risk-v1", refine=True) == load_prompt()
    with pytest.raises(HsiError, match="only asked with --refine"):
        chosen_prompt("risk-v1", refine=False)
    with pytest.raises(HsiError, match="--prompt is empty"):
        chosen_prompt(" ", refine=True)
    with pytest.raises(HsiError, match=r"no prompt 'risk-v9' .*there are: risk-v1"):
        chosen_prompt("risk-v9", refine=True)
    with pytest.raises(
        HsiError, match=r"cannot read .*manifest.json: .*a folder of prompts holds"
    ):
        chosen_prompt(str(tmp_path / "nowhere"), refine=True)


def test_a_prompt_that_was_changed_is_refused(tmp_path: Path) -> None:
    own = own_prompt(tmp_path)
    (own / "own-1" / "system.txt").write_text("You are somebody else.")
    with pytest.raises(HsiError, match=r"own-1 .* was changed: its checksum is"):
        chosen_prompt(str(own), refine=True)
