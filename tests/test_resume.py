"""A session that resumes its name goes on where it stopped."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Disk, Notices, lines_of, messages_of, record, segments_of

from jsonl_handler import JsonlFormatter, JsonlHandler, RotatingSessionJsonlHandler, _lineage

Make = Callable[..., JsonlHandler]


def segment(logs: Path, part: int = 0, date: dt.date | None = None) -> Path:
    """The path of a segment of the session `s`, of today unless told."""
    logs.mkdir(exist_ok=True)
    day = date or dt.datetime.fromtimestamp(time.time(), dt.UTC).date()
    return logs / f"telemetry-{day}-s{f'.{part}' if part else ''}.jsonl"


def line(seq: int | None = None, size: int = 0, session: str = "s", **fields: Any) -> bytes:
    """A line of the session, of *size* bytes at least."""
    made: dict[str, Any] = {"message": f"old {seq}", "session": session, "fill": "", **fields}
    if seq is not None:
        made["seq"] = seq
    made["fill"] = "x" * (size - len(json.dumps(made)) - 1)
    return json.dumps(made).encode() + b"\n"


def resume(make: Make, *texts: str, **settings: Any) -> JsonlHandler:
    """A handler of the session `s` that writes *texts*."""
    handler = make(session_id="s", flush_interval=3600.0, **settings)
    for text in texts or ("new",):
        handler.handle(record(text))
    assert handler.flush(PATIENCE)
    assert handler.session_id == "s"
    return handler


def test_the_highest_segment_goes_on(make: Make, logs: Path) -> None:
    """New lines follow the old ones in the last file; a missing lower one is not filled in again."""
    segment(logs).write_bytes(line(0))
    segment(logs, 2).write_bytes(line(7))
    resume(make)
    assert messages_of(segment(logs, 2)) == ["old 7", "new"]
    assert not segment(logs, 1).exists()
    assert segment(logs).read_bytes() == line(0)


def test_its_real_size_counts(make: Make, logs: Path) -> None:
    """What is in it already counts for the limit."""
    segment(logs).write_bytes(line(0, size=3500))
    resume(make, "x" * 300, "y" * 300, max_file_bytes=4096)
    assert len(lines_of(segment(logs))) == 2
    assert len(lines_of(segment(logs, 1))) == 1
    assert segment(logs).stat().st_size <= 4096


@pytest.mark.parametrize("size", [4096, 9000])
def test_a_full_segment_rotates_at_once(make: Make, logs: Path, size: int) -> None:
    """A segment at or over its limit gets no further line."""
    segment(logs, 3).write_bytes(line(4, size=size))
    resume(make, max_file_bytes=4096)
    assert segment(logs, 3).stat().st_size == size
    assert messages_of(segment(logs, 4)) == ["new"]


def test_an_empty_segment_gets_its_header(make: Make, logs: Path) -> None:
    """A process that was killed between making the file and its first line leaves no headless file."""
    segment(logs).write_bytes(b"")
    resume(make, context={"service": "web"})
    assert [entry.get("kind") for entry in lines_of(segment(logs))] == ["header", None]


def test_another_date_begins_its_own_file(make: Make, logs: Path) -> None:
    """A session that stopped yesterday goes on with its `seq`, not with its file."""
    yesterday = dt.datetime.fromtimestamp(time.time() - 86_400, dt.UTC).date()
    segment(logs, 5, yesterday).write_bytes(line(41))
    resume(make)
    assert messages_of(segment(logs)) == ["new"]
    assert lines_of(segment(logs))[0]["seq"] == 42
    assert segment(logs, 5, yesterday).read_bytes() == line(41)


@pytest.mark.parametrize("torn", [b"{", b'{"message": "to', b"\0\0\0", b'"only text"', b"[" * 5000, "{ü".encode()[:-1]])
def test_a_torn_last_line_is_cut_and_counted(make: Make, logs: Path, notices: Notices, torn: bytes) -> None:
    """Before the first append; a line of the package and a notice say so."""
    segment(logs).write_bytes(line(0) + line(1) + torn)
    handler = resume(make)
    old, other, told, new = lines_of(segment(logs))
    assert (old["seq"], other["seq"], new["seq"]) == (0, 1, 2)
    assert (told["logger"], told["torn"], told["torn_bytes"]) == ("jsonl_handler", 1, len(torn))
    assert told["session"] == "s"
    assert "seq" not in told
    assert f"{len(torn)} bytes" in notices.wait_for("a torn last line")
    handler.close()
    assert len(notices.about("a torn last line")) == 1


def test_a_file_that_is_all_torn_begins_anew(make: Make, logs: Path) -> None:
    """Where not one whole line is left, the header comes first again."""
    segment(logs).write_bytes(b'{"message": ')
    resume(make, context={"service": "web"})
    header, told, new = lines_of(segment(logs))
    assert (header["kind"], told["torn"], new["message"]) == ("header", 1, "new")


def test_a_torn_line_is_counted_once_in_trouble_too(make: Make, logs: Path, disk: Disk, notices: Notices) -> None:
    """A full disk between the cut and the first append tells nothing twice."""
    segment(logs).write_bytes(line(0) + b"torn")
    disk.shortest = 20
    disk.fill()
    handler = make(session_id="s", flush_interval=3600.0)
    handler.handle(record("new"))
    assert not handler.flush(0.1)
    disk.mend()
    assert handler.flush(PATIENCE)
    assert [entry.get("torn") for entry in lines_of(segment(logs))] == [None, 1, None]
    handler.close()
    assert len(notices.about("a torn last line")) == 1


def test_a_whole_line_that_lacks_only_its_newline_is_kept(make: Make, logs: Path, notices: Notices) -> None:
    """What was accepted is not thrown away."""
    segment(logs).write_bytes(line(0) + line(1)[:-1])
    resume(make)
    assert [entry["seq"] for entry in lines_of(segment(logs))] == [0, 1, 2]
    assert not notices.about("a torn last line")


def test_a_torn_line_longer_than_one_look_is_found(make: Make, logs: Path) -> None:
    """The torn end may be larger than the piece that is read at a time."""
    segment(logs).write_bytes(line(3) + b'{"message": "' + b"x" * 300_000)
    resume(make)
    assert [entry.get("seq") for entry in lines_of(segment(logs))] == [3, None, 4]


def test_seq_goes_on_over_a_segment_that_has_none(make: Make, logs: Path) -> None:
    """A last segment with nothing but a header, or lines of the package, does not make `seq` begin anew."""
    segment(logs).write_bytes(line(10) + line(12) + line(11))
    segment(logs, 1).write_bytes(line(kind="header"))
    resume(make)
    assert [entry.get("seq") for entry in lines_of(segment(logs, 1))] == [None, 13]


@pytest.mark.parametrize(("seqs", "following"), [((5, 6, 90), 91), ((5, 92, 90), 93)])
def test_seq_goes_on_after_the_files_written_last(
    make: Make, logs: Path, seqs: tuple[int, ...], following: int
) -> None:
    """A clock that was ahead left a file of a later date with lower numbers; threads raced at midnight."""
    today = dt.datetime.fromtimestamp(time.time(), dt.UTC).date()
    for moment, (days, seq) in enumerate(zip((10, -1, 0), seqs, strict=True)):
        path = segment(logs, 0, today + dt.timedelta(days=days))
        path.write_bytes(line(seq))
        os.utime(path, (moment, moment))
    resume(make)
    assert lines_of(segment(logs))[-1]["seq"] == following


@pytest.mark.parametrize(
    "odd",
    [
        line(99, session="other"),
        b"[" * 100_000 + b"\n",
        b"no json\n",
        b'["s", 99]\n',
        b'{"session": "s", "seq": "99"}\n',
        b'{"session": "s", "seq": null}\n',
        b"\xff\xfe\n",
    ],
)
def test_lines_that_are_not_of_the_session_do_not_count(make: Make, logs: Path, odd: bytes) -> None:
    """`seq` is read from whole lines of this very session, whatever else is in the file."""
    segment(logs).write_bytes(line(4) + odd)
    resume(make)
    assert json.loads(segment(logs).read_bytes().splitlines()[-1])["seq"] == 5


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "folder"])
def test_nothing_but_a_file_is_written_to(make: Make, logs: Path, tmp_path: Path, kind: str) -> None:
    """A link, a pipe or a folder at the segment's name is left alone, and the next number taken."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    there = segment(logs, 1)
    if kind == "link":
        there.symlink_to(precious)
    elif kind == "dangling":
        there.symlink_to(tmp_path / "nowhere")
    elif kind == "fifo":
        os.mkfifo(there)
    else:
        there.mkdir()
    before = os.lstat(there)
    segment(logs).write_bytes(line(8))
    resume(make)
    assert messages_of(segment(logs, 2)) == ["new"]
    assert lines_of(segment(logs, 2))[0]["seq"] == 9
    assert segment(logs).read_bytes() == line(8)
    assert precious.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()
    assert os.lstat(there).st_ino == before.st_ino


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_nothing_but_a_file_is_written_to_in_a_new_session_either(
    make: Make, logs: Path, tmp_path: Path, kind: str
) -> None:
    """The name may be taken by something that came after the session began."""
    handler = resume(make, "one", max_file_bytes=4096)
    there = segment(logs, 1)
    if kind == "link":
        there.symlink_to(tmp_path / "precious")
    elif kind == "fifo":
        os.mkfifo(there)
    else:
        there.mkdir()
    handler.handle(record("x" * 5000))
    assert handler.flush(PATIENCE)
    assert not (tmp_path / "precious").exists()
    assert len(lines_of(segment(logs, 2))) == 1


def test_a_closed_session_resumes_by_its_name(make: Make, logs: Path) -> None:
    """An explicit `session_id` again, which the process has forgotten: same file, next `seq`, no header twice."""
    for number in range(3):
        handler = RotatingSessionJsonlHandler(logs, session_id="s", context={"service": "web"})
        handler.handle(record(str(number)))
        handler.close()
        handler._files.start_anew()
    assert [entry.get("seq") for entry in lines_of(segment(logs))] == [None, 0, 1, 2]
    assert len(segments_of(logs)) == 1


def test_a_last_line_longer_than_a_look_does_not_begin_seq_anew(make: Make, logs: Path) -> None:
    """The numbers before a line of several MiB are found too."""
    segment(logs).write_bytes(line(41) + line(size=3 << 20))
    resume(make, max_file_bytes=16 << 20)
    assert [each["seq"] for each in lines_of(logs) if "seq" in each] == [41, 42]


def test_renamed_fields_are_found_again(make: Make, logs: Path) -> None:
    """A formatter that renames `session` and `seq` still counts on."""
    for _ in range(2):
        handler = make(session_id="s")
        handler.setFormatter(JsonlFormatter(rename_fields={"session": "sid", "seq": "number"}))
        handler.handle(record())
        handler.close()
        _lineage._closed.clear()
    assert [each["number"] for each in lines_of(logs)] == [0, 1]
