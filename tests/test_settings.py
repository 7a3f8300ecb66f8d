"""Settings: what is taken, what is refused, and what is said about it."""

from __future__ import annotations

import logging
import math
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jsonl_handler._aliases import _ALIASES, _HINTS, ARGUMENTS
from jsonl_handler._place import check_prefix
from jsonl_handler._settings_docs import settings_table
from jsonl_handler.errors import ConfigError
from jsonl_handler.settings import KEYS, RULES, Problem, Settings

REFERENCE = Path(__file__).parent.parent / "docs" / "reference.md"

DEFAULTS = {
    "flush_interval": 15.0,
    "flush_batch_size": 100,
    "flush_level": logging.ERROR,
    "buffer_limit": 500,
    "buffer_bytes": 1_048_576,
    "overflow": "drop_oldest",
    "overflow_timeout": 0.1,
    "max_record_bytes": 262_144,
    "max_file_bytes": 5_242_880,
    "max_age_days": 30,
    "max_total_bytes": 104_857_600,
    "max_files": 10_000,
    "min_free_bytes": 0,
    "compress": None,
    "fsync": "never",
    "crash_safe": True,
    "enabled": True,
    "context": None,
    "file_mode": 0o600,
    "close_timeout": 5.0,
}
FLOORS = {
    "flush_interval": 0,
    "flush_batch_size": 1,
    "buffer_limit": 10,
    "buffer_bytes": 65_536,
    "overflow_timeout": 0,
    "max_record_bytes": 1_024,
    "max_file_bytes": 4_096,
    "max_age_days": 1,
    "max_total_bytes": 4_096,
    "max_files": 1,
    "min_free_bytes": 0,
    "close_timeout": 0,
}
LIMITS = ("max_age_days", "max_total_bytes", "max_files", "min_free_bytes")
FRACTIONS = ("flush_interval", "overflow_timeout", "close_timeout", "max_age_days")
NO_NUMBERS = [
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    "100",
    "",
    "none",
    -1,
    -0.5,
    [100],
    {},
    b"100",
    1j,
    10**400,
    10**5000,
    object(),
]


def load(**values: object) -> Settings:
    """Settings of values in which nothing is wrong."""
    settings, problems = Settings.load(values)
    assert problems == []
    return settings


def one_problem(**values: object) -> tuple[Settings, Problem]:
    settings, problems = Settings.load(values)
    (problem,) = problems
    return settings, problem


def test_the_defaults_are_those_of_the_design() -> None:
    """Every key has its documented default, with and without `load`."""
    assert {key: getattr(Settings(), key) for key in KEYS} == DEFAULTS
    assert load() == Settings()


def test_settings_can_be_compared_hashed_and_not_changed() -> None:
    """Settings are a value: equal when all is equal, and never changed in place."""
    settings = load(max_files=7, context={"app": "shop"})
    assert settings == load(max_files=7, context={"app": "shop"})
    assert hash(settings) == hash(load(max_files=7, context={"app": "shop"}))
    assert settings != load(max_files=8, context={"app": "shop"})
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(FrozenInstanceError):
        settings.max_files = 8  # type: ignore[misc]


def test_every_key_is_described() -> None:
    """Each key has a sentence that says what it means, and each number its unit."""
    assert {each.name for each in fields(Settings)} == {*KEYS, "suspended"}
    assert all(rule.meaning.endswith(".") for rule in RULES.values())
    assert all(rule.unit for key, rule in RULES.items() if key in FLOORS)


def test_an_arena_is_half_of_the_buffer() -> None:
    """The two arenas share `buffer_bytes`."""
    assert load(buffer_bytes=65_537).arena_bytes == 32_768


@pytest.mark.parametrize("key", FLOORS)
def test_a_number_at_its_floor_is_taken(key: str) -> None:
    """The floor itself is allowed, and no limit is suspended."""
    settings, _ = Settings.load({key: FLOORS[key]})
    assert getattr(settings, key) == FLOORS[key]
    assert settings.suspended == frozenset()


@pytest.mark.parametrize("key", [key for key, floor in FLOORS.items() if floor])
def test_a_number_under_its_floor_takes_the_default(key: str) -> None:
    """One less than the floor is a problem that names the floor."""
    settings, problem = one_problem(**{key: FLOORS[key] - 1})
    assert getattr(settings, key) == DEFAULTS[key]
    assert f"must be at least {FLOORS[key]}" in problem.rule


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("key", FLOORS)
def test_what_is_no_usable_number_takes_the_default(key: str, value: object) -> None:
    """NaN, infinities, booleans, text, negative and endless numbers and lists are problems, each told."""
    settings, problem = one_problem(**{key: value})
    assert getattr(settings, key) == DEFAULTS[key]
    assert problem.key == key
    assert problem.value is value
    assert str(problem).startswith(f"{key}: must be ")
    assert len(str(problem)) < 300
    assert settings.suspended == ({key} if key in LIMITS else frozenset())


@pytest.mark.parametrize("key", FLOORS)
def test_none_is_a_problem_unless_it_means_no_limit(key: str) -> None:
    """None switches a deletion limit off; for any other number it is no value."""
    if key in LIMITS:
        assert getattr(load(**{key: None}), key) == (0 if key == "min_free_bytes" else None)
    else:
        settings, problem = one_problem(**{key: None})
        assert getattr(settings, key) == DEFAULTS[key]
        assert problem.key == key


@pytest.mark.parametrize("word", ["unlimited", "Unlimited", "UNLIMITED"])
@pytest.mark.parametrize("key", LIMITS)
def test_the_word_unlimited_is_no_limit(key: str, word: str) -> None:
    """Formats that have no null can still switch a deletion limit off."""
    settings = load(**{key: word})
    assert getattr(settings, key) == (0 if key == "min_free_bytes" else None)
    assert settings.suspended == frozenset()


def test_unlimited_is_only_for_deletion_limits() -> None:
    """No other key knows the word."""
    _, problem = one_problem(max_file_bytes="unlimited")
    assert "must be a whole number" in problem.rule


@pytest.mark.parametrize("key", sorted(set(FLOORS) - set(FRACTIONS)))
def test_a_fraction_is_no_whole_number(key: str) -> None:
    """A float is refused where a whole number is asked for, an integral one too."""
    _, problem = one_problem(**{key: 1_000_000.0})
    assert "a float" in problem.rule


@pytest.mark.parametrize("key", FRACTIONS)
def test_a_whole_number_is_fine_where_a_fraction_is(key: str) -> None:
    """`flush_interval: 1` means 1.0."""
    value = getattr(load(**{key: 1}), key)
    assert (value, type(value)) == (1.0, float)


def test_no_wait_is_longer_than_a_thread_can_wait() -> None:
    """A time-out that `threading` would refuse later is refused at once."""
    _, problem = one_problem(close_timeout=1e300)
    assert "must be at most" in problem.rule


def test_an_invalid_limit_suspends_its_deletion_alone() -> None:
    """Whoever wrote 0 or -1 meant "unlimited": nothing is deleted by that limit, and that is told."""
    settings, problems = Settings.load({"max_files": 0, "max_age_days": -1, "max_file_bytes": 12})
    assert settings.suspended == {"max_files", "max_age_days"}
    assert (settings.max_files, settings.max_age_days) == (10_000, 30)
    rule = 'must be at least 1, or None or "unlimited" for no limit'
    assert [str(problem) for problem in problems] == [
        f"max_files: {rule}, got 0; deletion by max_files is suspended",
        f"max_age_days: {rule}, got -1; deletion by max_age_days is suspended",
        "max_file_bytes: must be at least 4096, got 12; the default 5242880 is used instead",
    ]


@pytest.mark.parametrize(
    ("given_level", "level"),
    [("ERROR", 40), ("warn", 30), ("Critical", 50), ("NOTSET", 0), (25, 25), (None, None)],
)
def test_a_level_is_a_name_a_number_or_none(given_level: object, level: int | None) -> None:
    """Levels are given as `logging` has them, in any case; None means that no level flushes."""
    assert load(flush_level=given_level).flush_level == level


def test_a_level_of_the_applications_own_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A level added by `logging.addLevelName` works in any case too."""
    monkeypatch.setitem(logging._nameToLevel, "NOTICE", 27)
    assert load(flush_level="notice").flush_level == 27


@pytest.mark.parametrize("level", ["LOUD", "40", "", 40.0, True, [40], math.nan])
def test_what_is_no_level_takes_the_default(level: object) -> None:
    """An unknown name, text with a number in it, a fraction or a bool is no level."""
    settings, problem = one_problem(flush_level=level)
    assert settings.flush_level == logging.ERROR
    assert "level" in problem.rule


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "block"])
def test_each_overflow_policy_is_taken(policy: str) -> None:
    """The three policies of the documentation are those there are."""
    assert load(overflow=policy).overflow == policy


@pytest.mark.parametrize("value", ["bz2", "", "none", "GZIP", 1, True, ["gzip"]])
def test_an_unknown_compression_takes_the_default(value: object) -> None:
    """The problem lists what there is, None too."""
    settings, problem = one_problem(compress=value)
    assert settings.compress is None
    assert problem.rule == 'must be one of "gzip", "zstd" or None'
    assert load(compress=None).compress is None
    assert load(compress="gzip").compress == "gzip"


@pytest.mark.parametrize("value", ["always", "", None, True, 0])
def test_an_unknown_fsync_takes_the_default(value: object) -> None:
    """The problem lists the three that there are."""
    settings, problem = one_problem(fsync=value)
    assert settings.fsync == "never"
    assert problem.rule == 'must be one of "never", "rotate", "flush"'
    assert [load(fsync=each).fsync for each in ("never", "rotate", "flush")] == ["never", "rotate", "flush"]


@pytest.mark.parametrize("policy", ["drop", "", None, 1, True, ["block"]])
def test_an_unknown_overflow_policy_takes_the_default(policy: object) -> None:
    """The problem lists the policies that there are."""
    settings, problem = one_problem(overflow=policy)
    assert settings.overflow == "drop_oldest"
    assert problem.rule == 'must be one of "drop_oldest", "drop_newest", "block"'


@pytest.mark.parametrize("value", [0, 1, "false", None, []])
def test_enabled_is_a_bool_alone(value: object) -> None:
    """Nothing that is merely false switches the handler off."""
    settings, problem = one_problem(enabled=value)
    assert settings.enabled is True
    assert problem.rule == "must be true or false"


def test_enabled_may_be_false() -> None:
    """The handler can be switched off."""
    assert load(enabled=False).enabled is False


@pytest.mark.parametrize(
    ("given_mode", "mode"),
    [(0o600, 0o600), (0o640, 0o640), (0o666, 0o666), ("0640", 0o640), ("0o644", 0o644), ("660", 0o660)],
)
def test_a_file_mode_is_octal(given_mode: object, mode: int) -> None:
    """Permissions are a number, or octal text for formats without octal numbers."""
    assert load(file_mode=given_mode).file_mode == mode


@pytest.mark.parametrize(
    "mode",
    [
        *(0o400, 0o200, 0o060, 0, -1, 0o700, 0o611, 0o1600, 0o4600, 600, 10**400, 384.0, True, None),
        *("", "384", "0x180", "06400", "rw-------", "-600", "\u0666\u0664\u0660", [0o600]),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_a_bad_file_mode_is_an_error(mode: object, strict: bool) -> None:
    """Permissions are never guessed: a bad mode is refused in lenient mode too."""
    with pytest.raises(ConfigError, match="0o600 to 0o666") as caught:
        Settings.load({"file_mode": mode}, strict=strict)
    assert caught.value.where == "file_mode"


def test_a_context_is_copied() -> None:
    """A context that is changed after the call does not change the settings; its keys become text."""
    inner = [1, (2, {"deep": "x"})]
    given_context: dict[object, object] = {"list": inner, 7: "seven"}
    settings = load(context=given_context)
    inner.append(3)
    given_context["late"] = True
    assert settings.context == {"list": [1, [2, {"deep": "x"}]], "7": "seven"}


def endless() -> list[object]:
    nested: list[object] = []
    nested.append(nested)
    return nested


def deep() -> list[object]:
    nested: list[object] = []
    for _ in range(sys.getrecursionlimit() * 2):
        nested = [nested]
    return nested


def wide() -> list[object]:
    nested: list[object] = ["x"]
    for _ in range(60):
        nested = [nested, nested]
    return nested


class EndlessMapping(Mapping[str, object]):
    def __getitem__(self, key: str) -> object:
        return self

    def __iter__(self) -> Iterator[str]:
        while True:
            yield "again"

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("make", [endless, deep, wide, EndlessMapping])
def test_a_context_without_end_is_a_problem(make: Any) -> None:
    """A context that contains itself, or unfolds without end, is refused rather than followed."""
    settings, problem = one_problem(context={"x": make()})
    assert settings.context is None
    assert "must not contain itself" in problem.rule


@pytest.mark.parametrize("value", ["app", 5, ["app"], [("app", "shop")], True])
def test_a_context_is_a_mapping(value: object) -> None:
    """Anything else is a problem, and no header is written."""
    settings, problem = one_problem(context=value)
    assert settings.context is None
    assert problem.rule == "must be a mapping or None"


@pytest.mark.parametrize(
    ("values", "key", "result", "rule"),
    [
        ({"flush_batch_size": 501}, "flush_batch_size", 500, "must be at most buffer_limit (500)"),
        (
            {"flush_batch_size": 100, "buffer_limit": 50},
            "flush_batch_size",
            50,
            "must be at most buffer_limit (50)",
        ),
        (
            {"max_record_bytes": 524_289},
            "max_record_bytes",
            524_288,
            "must be at most half of buffer_bytes (524288)",
        ),
        (
            {"max_file_bytes": 104_857_601},
            "max_file_bytes",
            104_857_601,
            "must be at most max_total_bytes (104857600)",
        ),
        (
            {"max_file_bytes": 5_000, "max_total_bytes": 4_999},
            "max_file_bytes",
            5_000,
            "must be at most max_total_bytes (4999)",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_told(
    values: dict[str, object], key: str, result: int, rule: str
) -> None:
    """A value that another one makes pointless is a problem, and suspends no deletion."""
    settings, problem = one_problem(**values)
    assert getattr(settings, key) == result
    assert (problem.key, problem.rule) == (key, rule)
    assert settings.suspended == frozenset()


@pytest.mark.parametrize(
    ("values", "key", "result"),
    [
        ({"flush_batch_size": 500}, "flush_batch_size", 500),
        ({"buffer_limit": 10}, "flush_batch_size", 10),
        ({"max_record_bytes": 524_288}, "max_record_bytes", 524_288),
        ({"buffer_bytes": 65_536}, "max_record_bytes", 32_768),
        ({"max_file_bytes": 104_857_600}, "max_file_bytes", 104_857_600),
        ({"max_total_bytes": 4_096}, "max_file_bytes", 4_096),
        ({"max_file_bytes": 2**40, "max_total_bytes": None}, "max_file_bytes", 2**40),
    ],
)
def test_a_default_is_fitted_without_a_word(values: dict[str, object], key: str, result: int) -> None:
    """What the user did not set gives way silently, and what just fits is no contradiction."""
    assert getattr(load(**values), key) == result


def test_a_suspended_total_contradicts_nothing() -> None:
    """Without a total in force a segment may be of any size."""
    settings, problem = one_problem(max_file_bytes=2**40, max_total_bytes=-1)
    assert settings.max_file_bytes == 2**40
    assert problem.key == "max_total_bytes"


def test_a_problem_says_what_is_really_used() -> None:
    """When the default of a refused value has to give way too, the problem names what it became."""
    settings, problem = one_problem(flush_batch_size=0, buffer_limit=20)
    assert settings.flush_batch_size == 20
    assert problem.consequence == "20 is used instead"


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("filename", "directory"),
        ("baseFilename", "directory"),
        ("log_dir", "directory"),
        ("maxBytes", "max_file_bytes (bytes)"),
        ("max_bytes", "max_file_bytes (bytes)"),
        ("max-bytes", "max_file_bytes (bytes)"),
        ("MAX_BYTES", "max_file_bytes (bytes)"),
        ("maxFileSize", "max_file_bytes (bytes)"),
        ("max_size", "max_file_bytes (bytes)"),
        ("maxSize", "max_file_bytes (bytes)"),
        ("rotation", "max_file_bytes (bytes)"),
        ("backupCount", "max_files (files)"),
        ("retention", "max_age_days (days)"),
        ("maxAge", "max_age_days (days)"),
        ("capacity", "buffer_limit (records)"),
        ("maxsize", "buffer_limit (records)"),
        ("queueSize", "buffer_limit (records)"),
        ("flushIntervalMs", "flush_interval (seconds)"),
        ("flushLevel", "flush_level"),
        ("maxFileBytes", "max_file_bytes (bytes)"),
        ("compression", "compress"),
        ("zippedArchive", "compress"),
        ("sync", "fsync"),
        ("totalSizeCap", "max_total_bytes (bytes)"),
        ("flush_intervall", "flush_interval (seconds)"),
        ("max_fiels", "max_files (files)"),
        ("sessionId", "session_id"),
        ("prefx", "prefix"),
        ("when", "UTC midnight"),
        ("interval", "UTC midnight"),
        ("encoding", "always UTF-8"),
        ("delay", "remove it"),
        ("mode", "file_mode"),
        ("serialize", "always JSON"),
        ("enqueue", "built in"),
        ("directory", "argument of JsonlHandler"),
        ("xyzzy", "flush_interval, flush_batch_size"),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_an_unknown_key_is_told_the_right_one(key: str, right: str, strict: bool) -> None:
    """What people bring along from elsewhere, or misspell, is an error that names our word for it."""
    with pytest.raises(ConfigError) as caught:
        Settings.load({key: 1}, strict=strict)
    assert caught.value.where == key
    assert right in caught.value.problem


def test_all_unknown_keys_are_told_at_once() -> None:
    """One error lists every unknown key, so that one edit mends them all."""
    with pytest.raises(ConfigError) as caught:
        Settings.load({"maxBytes": 1, "max_files": 3, "backupCount": 2})
    assert str(caught.value) == (
        "maxBytes: unknown setting; use max_file_bytes (bytes). backupCount: unknown setting; use max_files (files)"
    )


@pytest.mark.parametrize("key", [5, None, ("max_files",), "", "x" * 100_000, "\ud800", "max_files\n"])
def test_a_key_of_any_kind_is_refused_in_a_few_words(key: Any) -> None:
    """A key that no one could mean is an unknown key too, and is not repeated at length."""
    with pytest.raises(ConfigError) as caught:
        Settings.load({key: 1})
    assert len(str(caught.value).encode()) < 600


def test_every_alias_leads_to_a_key_that_exists() -> None:
    """No advice names a key that would be refused in turn, and no alias hides a key of ours."""
    assert set(_ALIASES.values()) <= {*KEYS, *ARGUMENTS}
    assert not (_ALIASES.keys() | _HINTS.keys()) & {*KEYS, *ARGUMENTS}
    assert not _ALIASES.keys() & _HINTS.keys()


def test_strict_turns_every_problem_into_an_error() -> None:
    """A strict configuration is refused as a whole, with all that is wrong in it."""
    with pytest.raises(ConfigError) as caught:
        Settings.load({"max_files": 0, "flush_batch_size": 501}, strict=True)
    assert caught.value.where == "max_files"
    assert "flush_batch_size: must be at most buffer_limit (500), got 501" in caught.value.problem
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_strict_takes_what_is_right() -> None:
    """Strictness has nothing to say about good settings."""
    assert Settings.load({"max_files": 3}, strict=True) == (Settings(max_files=3), [])


@pytest.mark.parametrize("value", [None, 5, "max_files", ["max_files"], [("max_files", 3)]])
def test_what_is_no_mapping_is_an_error(value: Any) -> None:
    """Settings come as a mapping; anything else is refused in words."""
    with pytest.raises(ConfigError, match="settings must be a mapping"):
        Settings.load(value)


@pytest.mark.parametrize("prefix", ["telemetry", "a", "A.b_c-9", "x" * 64, "-", "_"])
def test_a_plain_prefix_is_taken(prefix: str) -> None:
    """A prefix has letters, digits, dots, dashes and underscores."""
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize(
    "prefix",
    ["", ".", ".hidden", "..", "a/b", "a\\b", "a b", "a\n", "\u00e9", "x" * 65, "a\0", None, 5, b"a"],
)
def test_any_other_prefix_is_an_error(prefix: object) -> None:
    """A prefix can neither leave the directory nor hide its files."""
    with pytest.raises(ConfigError) as caught:
        check_prefix(prefix)
    assert caught.value.where == "prefix"


class Nasty:
    """Raises whatever is asked of it."""

    def _raise(self, *args: object) -> Any:
        raise RuntimeError("no")

    __eq__ = __repr__ = __str__ = __bool__ = __len__ = __iter__ = __float__ = __int__ = __index__ = _raise
    __hash__ = object.__hash__
    __class__ = property(_raise)  # type: ignore[assignment]


class NastyInt(int):
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __repr__ = __str__ = __float__ = __index__ = Nasty._raise  # type: ignore[assignment]
    __hash__ = int.__hash__


class NastyFloat(float):
    __eq__ = __lt__ = __gt__ = __repr__ = __str__ = __float__ = Nasty._raise  # type: ignore[assignment]
    __hash__ = float.__hash__


class NastyText(str):
    __slots__ = ()
    __eq__ = __repr__ = __str__ = lower = upper = split = Nasty._raise  # type: ignore[assignment]
    __hash__ = str.__hash__


class LongRepr:
    def __repr__(self) -> str:
        return "\ud800\n" * 100_000


NASTY: dict[str, Callable[[], object]] = {
    "object": Nasty,
    "int": lambda: NastyInt(5),
    "float": lambda: NastyFloat(0.5),
    "text": lambda: NastyText("x"),
    "nested value": lambda: {"x": Nasty()},
    "nested key": lambda: {Nasty(): 1},
    "long repr": LongRepr,
    "cycle": endless,
    "endless number": lambda: 10**5000,
}


@dataclass(frozen=True)
class StandIn:
    """Stands for a hostile value where hypothesis itself would trip over one."""

    name: str


def real(value: object) -> object:
    match value:
        case StandIn(name):
            return NASTY[name]()
        case dict():
            return {key: real(inner) for key, inner in value.items()}
        case list():
            return [real(inner) for inner in value]
    return value


HOSTILE = st.builds(StandIn, st.sampled_from(sorted(NASTY)))
VALUES = st.one_of(
    HOSTILE,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=5),
    st.sampled_from([10**400, -(10**400), "unlimited", "block", "ERROR", 0o640, "0640"]),
    st.recursive(
        st.sampled_from([1, "x", None]) | HOSTILE,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
)


@pytest.mark.parametrize("key", [key for key in KEYS if key != "file_mode"])
@pytest.mark.parametrize("name", NASTY)
def test_a_hostile_value_is_a_problem_or_taken_plain(key: str, name: str) -> None:
    """A value whose own methods raise is either refused, or kept as a plain number or text."""
    settings, problems = Settings.load({key: NASTY[name]()})
    assert all(len(str(problem).encode()) < 500 and "\n" not in str(problem) for problem in problems)
    assert type(getattr(settings, key)) in (int, float, str, bool, dict, type(None))


def test_a_number_of_somebodys_own_type_becomes_a_plain_one() -> None:
    """What is kept behaves like a number or text, whatever the methods of the given value do."""
    settings = load(
        buffer_limit=NastyInt(20),
        flush_interval=NastyFloat(0.5),
        overflow=NastyText("block"),
        flush_batch_size=20,
    )
    assert (settings.buffer_limit, settings.flush_interval, settings.overflow) == (20, 0.5, "block")


def test_a_long_value_is_shown_in_short() -> None:
    """A warning shows at most 80 characters of a value."""
    _, problem = one_problem(max_file_bytes=["x" * 50] * 6)
    shown = str(problem).partition(", got ")[2].partition("; the default")[0]
    assert len(shown) == 80
    assert shown.startswith("['xxx")
    assert shown.endswith("…")


@given(
    st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=15) | st.integers(), VALUES, max_size=6)
    | st.dictionaries(st.sampled_from(KEYS), VALUES),
    st.booleans(),
)
@hypothesis_settings(max_examples=300, deadline=None)
def test_load_raises_nothing_but_a_config_error(values: dict[Any, object], strict: bool) -> None:
    """Whatever a configuration holds, it is taken, or refused in words that can be printed."""
    try:
        settings, problems = Settings.load({key: real(value) for key, value in values.items()}, strict=strict)
    except ConfigError as error:
        refused = str(error)
    else:
        refused = ""
        check_loaded(settings, problems, strict)
    assert refused.encode() or values.keys() <= set(KEYS)
    assert not refused or strict or values.keys() - set(KEYS) or "file_mode" in values


def check_loaded(settings: Settings, problems: list[Problem], strict: bool) -> None:
    assert all(str(problem).encode() for problem in problems)
    assert not (strict and problems)
    assert settings.suspended == {p.key for p in problems if p.key in LIMITS}
    for key, floor in FLOORS.items():
        value = getattr(settings, key)
        assert value is None or floor <= value < math.inf
    assert settings.flush_batch_size <= settings.buffer_limit
    assert settings.max_record_bytes <= settings.arena_bytes


def test_the_reference_holds_the_settings_as_they_are() -> None:
    """The table in the documentation is the one that the code generates."""
    text = REFERENCE.read_text(encoding="utf-8")
    table = text.partition("<!-- settings table -->\n")[2].partition("<!-- end of settings table -->")[0]
    assert table == settings_table()
    assert [row.split("`")[1] for row in table.splitlines()[2:]] == list(KEYS)
