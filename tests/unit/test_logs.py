"""Logs: one JSON line a record, secrets out, rotation that several processes share."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.errors import HsiError
from runtime.logs import RotatingFile, configure_logs, correlation
from runtime.settings import PROJECT_ROOT, Settings


@pytest.fixture(autouse=True)
def _root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    for handler in handlers:
        if handler not in root.handlers:
            root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)


def settings_for(path: Path, **values: Any) -> Settings:
    return Settings.model_validate({"log_file_path": path, **values})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_record_is_one_json_line_with_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "security.log"
    configure_logs(settings_for(path), "detect")
    with correlation("file_1"):
        logging.getLogger("agents").info("took %d\nlines", 2, extra={"path": Path("a/b"), "n": 3})
    logging.getLogger("agents").debug("below the level")
    (line,) = lines(path)
    assert line["message"] == "took 2\nlines"
    assert (line["level"], line["role"], line["pid"]) == ("INFO", "detect", os.getpid())
    assert (line["correlation_id"], line["path"], line["n"]) == ("file_1", "a/b", 3)
    assert line["time"].endswith("+00:00")


def test_the_chatter_of_mode_is_left_out_but_not_its_warnings(tmp_path: Path) -> None:
    path = tmp_path / "security.log"
    configure_logs(settings_for(path), "detect")
    logging.getLogger("streams.channel").info("[^StreamChannel]: Stopping...")
    logging.getLogger("streams.channel").error("[^StreamChannel]: Crashed")
    assert [line["level"] for line in lines(path)] == ["ERROR"]


def test_exceptions_stay_in_their_line(tmp_path: Path) -> None:
    path = tmp_path / "security.log"
    configure_logs(settings_for(path), "api")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger().exception("failed")
    (line,) = lines(path)
    assert "ValueError: no" in line["exception"]
    assert "correlation_id" not in line


def test_secrets_reach_neither_file_nor_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "security.log"
    given = {"nemotron_api_key": 'ti"ber', "database_url": "postgresql://u:lion%20king@h/d"}
    configure_logs(settings_for(path, **given), "api")
    log = logging.getLogger()
    log.info('key ti"ber, %s', "lion king", extra={"url": "redis://:other@h/0"})
    try:
        raise ValueError('ti"ber')
    except ValueError:
        log.exception("failed")
    text = path.read_text() + capsys.readouterr().err
    for secret in ("ber", "lion", "other"):
        assert secret not in text


def test_people_get_a_line_that_cannot_steer_their_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(settings_for(tmp_path / "l"), "watch")
    with correlation("file_2"):
        logging.getLogger().warning("name %s", "a\x1b[31mb")
    err = capsys.readouterr().err
    assert err.endswith("WARNING watch  name a\\x1b[31mb [file_2]\n")


def test_warnings_of_the_settings_are_logged(tmp_path: Path) -> None:
    from runtime.settings import load_settings

    path = tmp_path / "l"
    environ = {"LOG_FILE_PATH": str(path), "RTDETR_URL": "http://192.0.2.1"}
    configure_logs(load_settings(environ=environ), "detect")
    assert any("is not encrypted" in line["message"] for line in lines(path))


def test_names_that_are_not_utf8_are_written_escaped(tmp_path: Path) -> None:
    path = tmp_path / "l"
    configure_logs(settings_for(path), "watch")
    logging.getLogger().info("name %s", b"caf\xe9".decode("utf-8", "surrogateescape"))
    assert lines(path)[0]["message"].startswith("name caf")


def test_a_log_file_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HsiError, match=r"LOG_FILE_PATH=.* cannot be written"):
        configure_logs(settings_for(tmp_path / "file" / "security.log"), "api")


def test_a_full_disk_is_said_once_and_work_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    handler = RotatingFile(tmp_path / "log", 10**6, 1)
    os.close(handler._file)
    handler._file = os.open(full, os.O_WRONLY)
    handler._path = full
    handler.handle(logging.makeLogRecord({"msg": "one"}))
    handler.handle(logging.makeLogRecord({"msg": "two"}))
    handler.close()
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_the_file_rotates_and_only_the_newest_backups_stay(tmp_path: Path) -> None:
    path = tmp_path / "log"
    handler = RotatingFile(path, max_bytes=30, backups=2)
    for number in range(6):
        handler.handle(logging.makeLogRecord({"msg": f"{number}" * 19}))
    handler.close()
    names = sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock")
    assert names == ["log", "log.1", "log.2"]
    kept = [(tmp_path / name).read_text()[0] for name in names]
    assert kept == ["5", "4", "3"]


def test_a_removed_file_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    handler = RotatingFile(path, 1000, 1)
    path.unlink()
    handler.handle(logging.makeLogRecord({"msg": "still here"}))
    handler.close()
    assert path.read_text() == "still here\n"


_WRITER = """
import logging, sys
from pathlib import Path
from runtime.logs import RotatingFile
handler = RotatingFile(Path(sys.argv[1]), 20_000, 1000)
for number in range(400):
    handler.handle(logging.makeLogRecord({"msg": f"{sys.argv[2]} {number} " + "x" * 80}))
"""


def test_processes_share_a_file_without_losing_or_tearing_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(n)], cwd=PROJECT_ROOT)
        for n in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    files = [p for p in tmp_path.iterdir() if p.suffix != ".lock"]
    written = [line for file in files for line in file.read_text().splitlines()]
    assert len(files) > 3
    assert {len(line.split()) for line in written} == {3}
    assert len(written) == len(set(written)) == 1200
