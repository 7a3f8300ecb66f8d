"""The lines that the package itself writes into a segment: its header, and what happened to the stream."""

from __future__ import annotations

from collections.abc import Mapping

from jsonl_handler._clock import now
from jsonl_handler._encoding import encode_line
from jsonl_handler._losses import Loss
from jsonl_handler._status import LOGGER_NAME
from jsonl_handler._values import timestamp_text

SCHEMA_VERSION = 1


def own_line(message: str, **fields: object) -> bytes:
    """A line about the stream; it has no `seq`, and counts in no record."""
    head = {"timestamp": timestamp_text(now()), "level": "WARNING", "logger": LOGGER_NAME, "message": message}
    return encode_line({**head, **fields})


def about_loss(loss: Loss) -> tuple[str, dict[str, object]]:
    """What the line about a loss says, and its fields."""
    first, last = timestamp_text(loss.first), timestamp_text(loss.last)
    text = f"{loss.count} records dropped between {first} and {last}: {loss.reason}"
    return text, {"dropped": loss.count, "first": first, "last": last, "reason": loss.reason}


def about_torn(size: int) -> tuple[str, dict[str, object]]:
    """The same of half a line of *size* bytes, which was cut."""
    return f"a torn last line of {size} bytes was cut", {"torn": 1, "torn_bytes": size}


def header_line(session_id: str, segment: int, context: Mapping[str, object]) -> bytes:
    """The first line of a segment."""
    return encode_line(
        {
            "kind": "header",
            "schema_version": SCHEMA_VERSION,
            "timestamp": timestamp_text(now()),
            "session": session_id,
            "segment": segment,
            "context": context,
        }
    )
