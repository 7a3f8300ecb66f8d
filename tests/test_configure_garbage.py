"""Garbage in place of a configuration file: it is refused, or applied, and never stops what runs."""

from __future__ import annotations

import copy
import json
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import rounds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_configure import as_toml

from jsonl_handler import Configuration, JsonlHandler
from jsonl_handler._config_build import Builder

Configure = Callable[..., Configuration]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EXAMPLES = rounds(100, 500)
ALLOWED = {"jsonl_handler", "logging", "sys"}

log = logging.getLogger("app")


def good(logs: Path) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": "jsonl_handler.JsonlFormatter"}, "plain": {"format": "%(message)s"}},
        "filters": {"app": {"name": "app"}},
        "handlers": {
            "events": {"class": "jsonl_handler.JsonlHandler", "directory": str(logs), "formatter": "ours"},
            "null": {"class": "logging.NullHandler", "filters": ["app"], "level": "ERROR"},
            "memory": {"class": "logging.handlers.MemoryHandler", "capacity": 10, "target": "null"},
        },
        "loggers": {"app": {"level": "INFO", "handlers": ["events"], "propagate": False}},
        "root": {"level": "WARNING", "handlers": ["null"]},
    }


WORDS = st.sampled_from(
    [
        *("version", "incremental", "handlers", "events", "class", "()", ".", "level", "formatter", "filters", "INFO"),
        *("target", "directory", "prefix", "strict", "context", "max_files", "buffer_bytes", "flush_level", "app"),
        *("logging.NullHandler", "jsonl_handler.JsonlHandler", "jsonl_handler.RotatingSessionJsonlHandler"),
        *("nowhere.Nothing", "os.system", "subprocess.Popen", "logging.config.dictConfig", "logging", "sys.exit"),
        *("ext://sys.stdout", "ext://os.environ", "ext://", "cfg://handlers", "cfg://root.level", "cfg://", "cfg://["),
        *("", "a" * 10_000, "é\u2028\U0001f600", "\x00", "unlimited"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(2**70) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a configuration."""
    found = [path]
    if isinstance(value, dict):
        for key in value:
            found += places(value[key], (*path, key))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, Any]:
    """Which kind of damage, and its amount."""
    kind = draw(st.sampled_from(["value", "key", "remove", "truncate", "bytes", "deep", "huge", "random", "yaml"]))
    return kind, (draw(VALUES), draw(WORDS), draw(st.integers(0, 2**32)), draw(st.binary(max_size=20)))


def damage(logs: Path, render: Callable[[Any], str], kind: str, how: tuple[Any, str, int, bytes]) -> bytes:
    """The good file with one thing wrong with it."""
    value, word, number, noise = how
    made = copy.deepcopy(good(logs))
    path = random.Random(number).choice(places(made)[1:])
    at = made
    for key in path[:-1]:
        at = at[key]
    if kind == "value":
        at[path[-1]] = value
    elif kind == "key":
        at[word] = at.pop(path[-1])
    elif kind == "remove":
        del at[path[-1]]
    elif kind == "deep":
        return (render(good(logs))[:-1] + ', "x": ' + nested(number % 3000, word) + "}").encode()
    elif kind == "huge":
        made["x"] = [value] * (number % 2000)
        made["handlers"].update({f"h{count}": {"class": "logging.NullHandler"} for count in range(number % 500)})
    text = render(made).encode()
    if kind == "truncate":
        return text[: number % len(text)]
    if kind == "bytes":
        middle = number % len(text)
        return text[:middle] + noise + text[middle + len(noise) :]
    return noise if kind == "random" else text


def nested(depth: int, word: str) -> str:
    begin = f"{{{json.dumps(word)}: "
    return begin * depth + "1" + "}" * depth


BOMB = "version: 1\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]" for n in range(9))


@pytest.mark.parametrize("suffix", ["json", "yaml", "toml"])
def test_garbage_never_stops_logging_or_changes_what_runs(
    configured: Configure, tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Truncated, mistyped, huge, deep, foreign: after a refusal the same handler logs on, and the next file counts."""
    if suffix == "yaml":
        pytest.importorskip("yaml")

    def only_allowed(name: str) -> Any:
        if name.partition(".")[0] not in ALLOWED:
            raise ImportError(f"{name} is not for this test")
        return __import__(name)

    # `sys.exit` may be named, and is called then; it is refused like all that fails.
    monkeypatch.setattr(Builder, "importer", staticmethod(only_allowed))
    render = as_toml if suffix == "toml" else json.dumps
    path = tmp_path / f"logging.{suffix}"
    path.write_text(render(good(logs)))
    configuration = configured(path)
    logged = 0

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=EXAMPLES == 100
    )
    @given(mutated())
    def run(change: tuple[str, Any]) -> None:
        nonlocal logged
        kind, how = change
        before, levels = list(log.handlers), (log.level, logging.root.level)
        generation = configuration.generation
        path.write_bytes(BOMB.encode() if kind == "yaml" else damage(logs, render, kind, how))

        applied = configuration.reload()

        if not applied:
            assert configuration.last_error is not None
            assert configuration.last_error.path == str(path)
            assert (log.handlers, (log.level, logging.root.level)) == (before, levels)
            assert configuration.generation == generation
        # What was applied may be anything that is valid; the next good file counts again.
        path.write_text(render(good(logs)))
        assert configuration.reload(), configuration.last_error
        (handler,) = log.handlers
        assert isinstance(handler, JsonlHandler)
        log.info("%s", logged)
        logged += 1

    run()
    (handler,) = log.handlers
    handler.flush()
    messages = [
        json.loads(line)["message"] for found in logs.glob("*.jsonl") for line in found.read_bytes().splitlines()
    ]
    assert sorted(messages, key=int) == [str(number) for number in range(logged)]
