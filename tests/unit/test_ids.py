"""Ids: the same fact has the same id always, different facts have different ones."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from domain import ids

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_ids_never_change() -> None:
    # Stored ids depend on these: a change of the recipe would double every picture.
    assert ids.follow_up_id("e_1", "objects.detected") == GOLDEN["follow_up"]
    assert ids.picture_id("porch", "aa", NOON) == GOLDEN["picture"]
    assert ids.batch_id("porch", "pic_1") == GOLDEN["batch"]
    assert ids.event_id("batch_1") == GOLDEN["event"]
    assert ids.file_id("porch", "porch/a.jpg", "aa", 7) == GOLDEN["file"]


GOLDEN = {
    "follow_up": "e_4e4ab9f82aa2897314da2f63",
    "picture": "pic_20134f8646cc53c4f41a75b0",
    "batch": "batch_2e50ff92c186c0689e14942c",
    "event": "evt_8dfa050bd24a9f547840b104",
    "file": "file_afbf2796a168afc6614af5ab",
}


def test_the_time_zone_does_not_matter() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert ids.picture_id("porch", "aa", NOON) == ids.picture_id("porch", "aa", there)
    assert ids.instant(there) == "2026-03-01T12:00:00.000000+00:00"


def test_parts_never_run_into_each_other() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("a\x00b", "c"), ("a", "\x00bc")]
    assert len({ids.batch_id(*pair) for pair in pairs}) == len(pairs)
    assert ids.follow_up_id("a", "b", 1) != ids.follow_up_id("a", "b1", 0)


def test_every_part_counts() -> None:
    made = {
        ids.picture_id("porch", "aa", NOON),
        ids.picture_id("yard", "aa", NOON),
        ids.picture_id("porch", "bb", NOON),
        ids.picture_id("porch", "aa", NOON + timedelta(microseconds=1)),
        ids.picture_id("porch", "aa", NOON, frame=1),
    }
    assert len(made) == 5


@pytest.mark.parametrize(
    ("folder", "slug"),
    [
        ("Front Door", "front_door"),
        ("front_door", "front_door"),
        ("Höfe & Gärten", "hofe_garten"),
        ("../etc", "etc"),
        ("cam\n1", "cam_1"),
        ("x" * 255, "x" * 64),
    ],
)
def test_a_camera_is_named_after_its_folder(folder: str, slug: str) -> None:
    assert ids.camera_id(folder) == slug


def test_a_folder_without_a_letter_gets_an_id_of_its_own() -> None:
    made = {ids.camera_id(folder) for folder in ("車庫", "玄関", "...", "\udcff")}
    assert len(made) == 4
    assert all(name.startswith("cam_") for name in made)


def test_the_boxes_of_a_picture_are_numbered() -> None:
    assert ids.detection_id("pic_1", 2) == "pic_1.2"
