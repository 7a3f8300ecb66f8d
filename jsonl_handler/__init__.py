"""A handler for the standard library's `logging` that writes JSON Lines to files of this process's session alone."""

from __future__ import annotations

from jsonl_handler._buffer import RecordBuffer
from jsonl_handler._status import Stats
from jsonl_handler.errors import ConfigError, JsonlHandlerError
from jsonl_handler.files import RotatingSessionJsonlHandler
from jsonl_handler.formatter import JsonlFormatter
from jsonl_handler.handler import JsonlHandler
from jsonl_handler.pair import BatchQueueListener, SessionQueueHandler
from jsonl_handler.reading import recover
from jsonl_handler.settings import Problem, Settings

__all__ = [
    "BatchQueueListener",
    "ConfigError",
    "JsonlFormatter",
    "JsonlHandler",
    "JsonlHandlerError",
    "Problem",
    "RecordBuffer",
    "RotatingSessionJsonlHandler",
    "SessionQueueHandler",
    "Settings",
    "Stats",
    "recover",
]
