"""A handler for the standard library's `logging` that writes JSON Lines to files of this process's session alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonl_handler._buffer import RecordBuffer
from jsonl_handler._status import Stats
from jsonl_handler.errors import ConfigError, JsonlHandlerError
from jsonl_handler.formatter import JsonlFormatter
from jsonl_handler.handler import JsonlHandler
from jsonl_handler.pair import BatchQueueListener, SessionQueueHandler
from jsonl_handler.settings import Problem, Settings

if TYPE_CHECKING:
    from jsonl_handler._schema import json_schema
    from jsonl_handler.configuration import Configuration, configure
    from jsonl_handler.files import RotatingSessionJsonlHandler
    from jsonl_handler.reading import recover

__all__ = [
    "BatchQueueListener",
    "ConfigError",
    "Configuration",
    "JsonlFormatter",
    "JsonlHandler",
    "JsonlHandlerError",
    "Problem",
    "RecordBuffer",
    "RotatingSessionJsonlHandler",
    "SessionQueueHandler",
    "Settings",
    "Stats",
    "configure",
    "json_schema",
    "recover",
]

# What few programs ask for is imported when they do.
_LATER = {
    "Configuration": "configuration",
    "RotatingSessionJsonlHandler": "files",
    "configure": "configuration",
    "json_schema": "_schema",
    "recover": "reading",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return value
