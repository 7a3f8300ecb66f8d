"""What a record says, read carefully: its message, its exception, its stack.

Where the parts go, and under which names, is the formatter's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from jsonl_handler._values import describe, qualified_name, text

LEFT_BY_FORMATTERS = frozenset({"message", "asctime"})
"""logging refuses them as extras: they are not the user's, another formatter left them."""


def message_fields(
    record: logging.LogRecord, attributes: dict[str, Any], message_dict: dict[str, Any] | None
) -> dict[str, Any]:
    """`message`, or what stands in its place: the message of a dict, or a template that its arguments don't fit."""
    if message_dict is not None:
        # No template: arguments that came along are kept, as they are when they don't fit one.
        fields = {"message": message_dict["message"]} if "message" in message_dict else {}
        return fields | _args_field(attributes)
    try:
        message = record.getMessage()
        return {"message": message if type(message) is str else text(message)}
    except Exception as error:
        fields = {"message": text(attributes["msg"]) if "msg" in attributes else None}
        if "msg" in attributes and "args" in attributes:
            fields["message_error"] = describe(error)
        return fields | _args_field(attributes)


def _args_field(attributes: dict[str, Any]) -> dict[str, Any]:
    args = attributes.get("args")
    if type(args) is tuple:
        return {"args": args} if args else {}
    return {} if args is None else {"args": [args]}


def trouble_fields(
    attributes: dict[str, Any],
    format_exception: Callable[[Any], object],
    format_stack: Callable[[Any], object],
) -> dict[str, Any]:
    """`exception` and `stack_info`, those that there are."""
    fields: dict[str, Any] = {}
    exc_info, exc_text, stack_info = map(attributes.get, ("exc_info", "exc_text", "stack_info"))
    if type(exc_info) is tuple and len(exc_info) == 3:
        cls, error, _ = exc_info
        if cls is not None or error is not None:
            try:
                stacktrace = format_exception(exc_info)
            except Exception as trouble:
                stacktrace = exc_text or f"<the traceback could not be formatted: {describe(trouble)}>"
            name = qualified_name(cls if error is None else type(error))
            fields["exception"] = {"type": name, "message": text(error), "stacktrace": stacktrace}
    elif exc_info:
        fields["exception"] = {"stacktrace": exc_text or text(exc_info)}
    if exc_text and "exception" not in fields:
        fields["exception"] = {"stacktrace": exc_text}
    if stack_info:
        try:
            fields["stack_info"] = format_stack(stack_info)
        except Exception:
            fields["stack_info"] = text(stack_info)
    return fields
