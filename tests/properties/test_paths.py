"""Any file name that Linux allows survives the way through events and back."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import PermanentError
from domain.paths import escape_path, is_passing, suffix, unescape_path

NAMES = st.binary(min_size=1, max_size=255).map(os.fsdecode)


@given(NAMES)
def test_every_name_comes_back_as_the_same_bytes(name: str) -> None:
    text = escape_path(name)
    assert os.fsencode(unescape_path(json.loads(json.dumps(text)))) == os.fsencode(name)
    assert not any(ord(character) < 32 for character in text)


@given(NAMES, NAMES)
def test_different_names_stay_different(one: str, other: str) -> None:
    assert (escape_path(one) == escape_path(other)) == (one == other)


@given(st.text())
def test_a_text_that_we_did_not_write_is_refused_or_comes_back(text: str) -> None:
    try:
        path = unescape_path(text)
    except PermanentError:
        return
    assert escape_path(path) == text


@pytest.mark.parametrize("text", ["a\nb", r"a\x41", r"a\u0041", r"a\b", r"\xFF", "\u202e.jpg"])
def test_second_spellings_are_refused(text: str) -> None:
    with pytest.raises(PermanentError, match="is not a path"):
        unescape_path(text)


def test_plain_names_stay_as_they_are() -> None:
    assert (
        escape_path("Front Door/Überwachung #1 100%.jpg") == "Front Door/Überwachung #1 100%.jpg"
    )


@pytest.mark.parametrize(
    "name",
    [".a.jpg", "a.jpg.part", "a.TMP", "a.jpg.filepart", "a.jpg~", "@eaDir", "Thumbs.db", "..."],
)
def test_temporary_and_housekeeping_names_pass(name: str) -> None:
    assert is_passing(name)


@pytest.mark.parametrize("name", ["a.jpg", "part", "tmp.jpg", "a.part.jpg", "x"])
def test_other_names_count(name: str) -> None:
    assert not is_passing(name)


def test_suffix_is_the_last_one_in_lower_case() -> None:
    assert suffix("a.b/c.D.JPG") == ".jpg"
    assert suffix("a.b/c") == ""
