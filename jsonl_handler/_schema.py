"""The settings as JSON Schema 2020-12, generated from `Settings` itself, so that editors complete and check them.

What it accepts is what `Settings.load` with *strict* takes, as far as the language goes; docs/reference.md
has the rest. Nothing is checked here.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from jsonl_handler._place import PREFIX
from jsonl_handler._rules import Kind, Rule
from jsonl_handler.settings import Settings

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_CLASS = "jsonl_handler.JsonlHandler"
_TRIADS = (0, 2, 4, 6)
_WORDS = {"None": "null", "True": "true", "False": "false"}


def json_schema(*, whole: bool = False) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a handler's entry in a logging configuration, as plain dicts and lists.

    With *whole* it is that of a whole configuration: each handler whose class is
    ``jsonl_handler.JsonlHandler`` must match our entry, and other handlers may hold anything.
    Level names are those that `logging` knows at the time of the call.
    """
    # Not in `_entry` itself: taplo completes no keys of a schema that has "allOf".
    schema = _configuration() if whole else {**_entry(), "allOf": _between_settings()}
    return {"$schema": _DIALECT, **schema}


def _configuration() -> dict[str, Any]:
    logger = {
        "level": _level("What it lets pass."),
        "handlers": _names("The handlers that get its records."),
        "filters": _names("The filters that a record must pass."),
    }
    passes_on = {"enum": [True, False, 0, 1, None], "description": "Whether the loggers above it get its records too."}
    return {
        "title": "A logging configuration",
        "description": "What logging.config.dictConfig takes.",
        "type": "object",
        "properties": {
            "version": {"const": 1, "description": "The version of this form; there is only one."},
            "disable_existing_loggers": {
                "type": "boolean",
                "default": True,
                "description": "Whether loggers that exist and are not named here fall silent.",
            },
            "incremental": {
                "type": "boolean",
                "default": False,
                "description": "Whether only levels, and which loggers pass records on, are changed.",
            },
            "formatters": _mapping_of({"type": "object"}, "What makes lines of records."),
            "filters": _mapping_of({"type": "object"}, "What lets records pass."),
            "handlers": _mapping_of({"$ref": "#/$defs/handler"}, "Where records go."),
            "loggers": _mapping_of({"$ref": "#/$defs/logger"}, "Where records come from."),
            "root": _object("The logger above all others.", logger),
        },
        "required": ["version"],
        "$defs": {
            "handler": {
                "type": "object",
                "properties": {"class": {"type": "string", "examples": [_CLASS], "description": "Its class."}},
                "if": {"properties": {"class": {"const": _CLASS}}, "required": ["class"]},
                "then": {"allOf": [{"$ref": "#/$defs/JsonlHandler"}, *_between_settings()]},
                # It refuses nothing: taplo, which editors ask about TOML, completes keys by it, and not by "then".
                "anyOf": [{"$ref": "#/$defs/JsonlHandler"}, {"type": "object"}],
            },
            "JsonlHandler": _entry(),
            "logger": _object("A logger.", {**logger, "propagate": passes_on}),
        },
    }


def _entry() -> dict[str, Any]:
    settings = {each.name: _setting(each.metadata["rule"], each.default) for each in fields(Settings) if each.metadata}
    arguments = {
        "class": {"const": _CLASS, "description": "The handler's class."},
        "directory": {
            "type": "string",
            # No NUL, and not empty.
            "pattern": r"^[^\x00]+$",
            "description": "Where the files lie; made when it is missing.",
        },
        "prefix": {
            "type": "string",
            "pattern": f"^{PREFIX.pattern}$",
            "default": "telemetry",
            "description": "First part of each file's name.",
        },
        "session_id": {
            "type": ["string", "null"],
            "default": None,
            "description": "The session's name, cut to its first 8 ASCII letters and digits; null for a random one.",
        },
        "level": _level("What it lets pass."),
        "formatter": {
            "type": ["string", "null"],
            "description": "The name of the formatter that makes the lines; without one they have the default form.",
        },
        "filters": _names("The filters that a record must pass."),
        "strict": {
            "type": "boolean",
            "default": False,
            "description": "Whether an invalid setting is an error, rather than told and replaced by its default.",
        },
    }
    entry = _object("A handler that writes JSON Lines into files of its session alone.", arguments | settings)
    return {"title": "JsonlHandler", **entry, "required": ["class", "directory"]}


def _between_settings() -> list[dict[str, Any]]:
    """Where only one of two settings is given, it must fit the default of the other; two values can't be compared."""
    default = Settings()
    return [
        {"if": {"required": [other]}, "else": {"properties": {key: {"maximum": bound}}}}
        for key, other, bound in (
            ("flush_batch_size", "buffer_limit", default.buffer_limit),
            ("max_record_bytes", "buffer_bytes", default.arena_bytes),
            ("max_file_bytes", "max_total_bytes", default.max_total_bytes),
        )
    ]


def _setting(rule: Rule, default: Any) -> dict[str, Any]:
    meaning = re.sub(r"\b(None|True|False)\b", lambda word: _WORDS[word[0]], rule.meaning)
    if rule.deletes:
        meaning += ' Where a format has no null: "unlimited".'
    if rule.unit:
        meaning += f" Unit: {rule.unit}."
    if rule.kind is Kind.MODE:
        default = f"0{default:o}"
    if rule.kind is Kind.LEVEL:
        default = logging.getLevelName(default)
    return {**_KINDS[rule.kind](rule), "default": default, "description": meaning}


def _number(rule: Rule) -> dict[str, Any]:
    made: dict[str, Any] = {"type": rule.kind.value}
    if rule.deletes:
        made = {"type": [rule.kind.value, "null", "string"], "pattern": f"^{_in_any_case('unlimited')}$"}
    # The highest float refuses what a parser makes of 1e999.
    return made | {"minimum": rule.floor, "maximum": min(rule.ceiling, sys.float_info.max)}


def _choice(rule: Rule) -> dict[str, Any]:
    return {"enum": [*rule.choices, *([None] if rule.nullable else [])]}


def _plain(rule: Rule) -> dict[str, Any]:
    kind = "object" if rule.kind is Kind.MAPPING else rule.kind.value
    return {"type": [kind, "null"] if rule.nullable else kind}


def _flush_level(rule: Rule) -> dict[str, Any]:
    known = logging.getLevelNamesMapping()
    # A name is looked up as it is, and then in upper case.
    forms = [_in_any_case(name) if name == name.upper() else _literally(name) for name in known]
    return {"type": ["string", "integer", "null"], "pattern": _one_of(forms), "examples": list(known)}


def _level(meaning: str) -> dict[str, Any]:
    known = logging.getLevelNamesMapping()
    text = f"{meaning} A level's name, in upper case, or its number."
    return {
        "type": ["string", "integer", "null"],
        "pattern": _one_of(map(_literally, known)),
        "examples": list(known),
        "description": text,
    }


def _mode(rule: Rule) -> dict[str, Any]:
    modes = [0o600 + 8 * group + others for group in _TRIADS for others in _TRIADS]
    return {"anyOf": [{"type": "string", "pattern": "^(0o?)?6[0246][0246]$"}, {"type": "integer", "enum": modes}]}


_KINDS: dict[Kind, Callable[[Rule], dict[str, Any]]] = {
    Kind.INTEGER: _number,
    Kind.NUMBER: _number,
    Kind.BOOLEAN: _plain,
    Kind.LEVEL: _flush_level,
    Kind.CHOICE: _choice,
    Kind.MODE: _mode,
    Kind.MAPPING: _plain,
}


def _names(meaning: str) -> dict[str, Any]:
    return {"type": ["array", "null"], "items": {"type": "string"}, "description": meaning}


def _mapping_of(schema: dict[str, Any], meaning: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": schema, "description": meaning}


def _object(meaning: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"description": meaning, "type": "object", "properties": properties, "additionalProperties": False}


def _one_of(forms: Iterable[str]) -> str:
    return f"^({'|'.join(forms)})$"


def _in_any_case(name: str) -> str:
    return "".join(
        f"[{char.upper()}{char.lower()}]" if char.isascii() and char.isalpha() else _literally(char) for char in name
    )


def _literally(name: str) -> str:
    # Not `re.escape`: what it does to a space or a dash is an error in the regular expressions of JSON Schema.
    return re.sub(r"[\^$\\.*+?()\[\]{}|/]", r"\\\g<0>", name)
