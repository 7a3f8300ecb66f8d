"""The package's own voice: who hears it, and how often."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import freezegun
import pytest
from conftest import Notices

from jsonl_handler import JsonlHandler
from jsonl_handler._status import Voice

Make = Callable[..., JsonlHandler]


def test_three_at_once_then_one_a_minute(notices: Notices) -> None:
    """Of one kind three notices are spoken at once; what comes then is held and summed until a minute has passed."""
    voice = Voice()
    with freezegun.freeze_time("2026-11-22") as clock:
        for number in range(10):
            voice.tell("loss", f"trouble {number}", count=2)
            voice.speak()
        assert len(notices.texts()) == 3
        clock.tick(61)
        voice.speak()
    assert notices.texts()[3:] == ["trouble 9"]
    assert [record.__dict__["count"] for record in notices.records] == [2, 2, 2, 14]
    assert not voice.held


def test_kinds_do_not_silence_each_other(notices: Notices) -> None:
    """A flood of one kind holds back no other kind."""
    voice = Voice()
    for _ in range(10):
        voice.tell("loss", "flood")
    voice.tell("disk", "important")
    voice.speak()
    assert notices.texts() == ["flood", "flood", "flood", "important"]


def test_at_the_end_everything_is_said(notices: Notices) -> None:
    """What the rate limit holds back is spoken when the handler closes."""
    voice = Voice()
    for _ in range(10):
        voice.tell("loss", "flood", count=1)
    voice.speak(finally_=True)
    assert [record.__dict__["count"] for record in notices.records] == [1, 1, 1, 7]


def test_levels_and_filters_of_the_logger_are_heeded(notices: Notices) -> None:
    """Users silence the voice the usual way: by a level, a filter, or `logging.disable`."""
    logger = logging.getLogger("jsonl_handler")
    voice = Voice()
    logger.setLevel(logging.ERROR)
    voice.tell("a", "below the level")
    voice.speak()
    logger.setLevel(logging.NOTSET)
    logger.addFilter(lambda record: "unwanted" not in record.getMessage())
    voice.tell("b", "unwanted")
    voice.speak()
    logging.disable(logging.CRITICAL)
    voice.tell("c", "disabled")
    voice.speak()
    logging.disable(logging.NOTSET)
    assert notices.texts() == []


def test_a_handler_of_the_application_that_raises(capsys: pytest.CaptureFixture[str]) -> None:
    """A handler that fails on our notice reaches neither the program nor the next notice; stderr says what was lost."""

    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> Any:
            raise ValueError("broken")

    logger = logging.getLogger("jsonl_handler")
    broken = Broken()
    logger.addHandler(broken)
    voice = Voice()
    voice.tell("disk", "trouble")
    voice.speak()
    logger.removeHandler(broken)
    assert "trouble" in capsys.readouterr().err


def test_the_voice_reaches_no_handler_of_ours(make: Make, notices: Notices) -> None:
    """A stream is never fed by notices about streams."""
    handler = make()
    logging.getLogger().addHandler(handler)
    voice = Voice()
    voice.tell("disk", "trouble")
    voice.speak()
    assert notices.texts() == ["trouble"]
    assert handler.stats().accepted == 0


def test_a_notice_rings_the_bell() -> None:
    """Whoever speaks is called as soon as there is something to say."""
    voice = Voice()
    rung: list[bool] = []
    voice.bell = lambda: rung.append(voice.pending)
    voice.tell("disk", "trouble")
    assert rung == [True]
