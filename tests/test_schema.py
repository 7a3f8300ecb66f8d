"""The JSON Schema: it accepts what `Settings.load` with strict takes, and editors can read it."""

from __future__ import annotations

import ast
import json
import logging
import math
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import jsonl_handler
from jsonl_handler import ConfigError, Settings, json_schema
from jsonl_handler._aliases import ARGUMENTS
from jsonl_handler._codec import is_available
from jsonl_handler._place import check_prefix
from jsonl_handler.settings import KEYS, RULES

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
ENTRY = {"class": "jsonl_handler.JsonlHandler", "directory": "logs"}
OTHER = {"flush_batch_size": "buffer_limit", "max_record_bytes": "buffer_bytes", "max_file_bytes": "max_total_bytes"}


def pattern_as_the_standard_has_it(validator: Any, pattern: str, text: object, schema: Any) -> Any:
    """The package asks Python's `re`, where ``$`` stands before a last newline too; in ECMA-262 it does not."""
    if isinstance(text, str) and not re.search(pattern.replace("$", r"\Z"), text):
        yield jsonschema.ValidationError(f"{text!r} does not match {pattern!r}")


Validator = jsonschema.validators.extend(Draft202012Validator, {"pattern": pattern_as_the_standard_has_it})
VALIDATOR = Validator(json_schema())
WHOLE = Validator(json_schema(whole=True))


def accepts(**values: object) -> bool:
    return bool(VALIDATOR.is_valid(ENTRY | values))


def loads(**values: object) -> bool:
    try:
        Settings.load(values, strict=True)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("whole", [False, True])
def test_the_schema_is_one(whole: bool) -> None:
    """Both schemas are valid by the meta-schema of 2020-12, and made of what JSON has alone."""
    schema = json_schema(whole=whole)

    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema


def test_each_call_makes_a_schema_of_its_own() -> None:
    """A program may change what it gets."""
    json_schema()["properties"].clear()

    assert json_schema()["properties"]


def test_the_schema_has_each_key_once() -> None:
    """It knows all settings and all that `dictConfig` and the handler take beside them, and nothing else."""
    schema = json_schema()

    assert set(schema["properties"]) == {"class", *ARGUMENTS, *KEYS}
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["class", "directory"]
    assert json_schema(whole=True)["$defs"]["JsonlHandler"]["properties"] == schema["properties"]


@pytest.mark.parametrize("key", KEYS)
def test_the_defaults_are_those_of_the_settings(key: str) -> None:
    """A default that an editor writes changes nothing."""
    default = json_schema()["properties"][key]["default"]

    assert Settings.load({key: default}, strict=True) == (Settings(), [])
    assert accepts(**{key: default})


@pytest.mark.parametrize("key", KEYS)
def test_each_setting_is_described_in_words_of_json(key: str) -> None:
    """The description has the meaning and the unit, and says null where Python says None."""
    rule, found = RULES[key], json_schema()["properties"][key]

    assert found["description"].startswith(rule.meaning.split(",")[0].split(";")[0].replace("False", "false"))
    assert not re.search(r"\b(None|True|False)\b", found["description"])
    assert not rule.unit or found["description"].endswith(f"Unit: {rule.unit}.")
    assert found.get("minimum") == rule.floor
    assert accepts(**{key: None}) is (rule.nullable or rule.deletes)
    assert not rule.choices or [choice for choice in found["enum"] if choice] == list(rule.choices)


GOOD: list[dict[str, object]] = [
    {},
    {"prefix": "shop", "session_id": "1a2b", "level": "INFO", "formatter": "jsonl", "filters": ["mine"]},
    {"prefix": "x" * 64, "session_id": None, "level": 25, "formatter": None, "filters": [], "strict": True},
    {"flush_interval": 1, "overflow_timeout": 0, "close_timeout": 0.5, "max_age_days": 1.5},
    {"flush_batch_size": 500},
    {"flush_batch_size": 501, "buffer_limit": 501},
    {"flush_level": "warn"},
    {"flush_level": 25},
    {"flush_level": None},
    {"buffer_limit": 10, "buffer_bytes": 65536},
    {"overflow": "block", "fsync": "rotate", "compress": "gzip"},
    {"compress": None, "context": None, "max_age_days": None, "max_total_bytes": None, "max_files": None},
    {"max_age_days": "unlimited", "max_total_bytes": "Unlimited", "max_files": "UNLIMITED"},
    {"min_free_bytes": None},
    {"min_free_bytes": "unlimited"},
    {"max_file_bytes": 2**40, "max_total_bytes": None},
    {"max_record_bytes": 524_288},
    {"crash_safe": False, "enabled": False},
    {"context": {"app": "shop", "build": {"number": 7, "tags": ["a", None]}}},
    {"file_mode": 0o640},
    {"file_mode": "640"},
    {"file_mode": "0o640"},
    {"file_mode": "0660"},
]
BAD: list[dict[str, object]] = [
    {"class": "logging.FileHandler"},
    {"directory": ""},
    {"directory": None},
    {"directory": "a\0b"},
    {"directory": 5},
    {"prefix": ""},
    {"prefix": ".hidden"},
    {"prefix": "a/b"},
    {"prefix": "x" * 65},
    {"prefix": "shop\n"},
    {"prefix": None},
    {"session_id": ["1a2b"]},
    {"level": "info"},
    {"level": "LOUD"},
    {"level": True},
    {"formatter": {"class": "jsonl_handler.JsonlFormatter"}},
    {"filters": "mine"},
    {"strict": "yes"},
    {"maxBytes": 5000},
    {"flush_intervall": 1},
    {"suspended": []},
    {"flush_interval": -1},
    {"flush_interval": "1"},
    {"flush_interval": True},
    {"flush_interval": None},
    {"flush_interval": math.inf},
    {"close_timeout": 1e300},
    {"max_age_days": 0},
    {"max_age_days": 10**400},
    {"max_age_days": "never"},
    {"flush_batch_size": 0},
    {"flush_batch_size": 1.5},
    {"flush_batch_size": 501},
    {"max_record_bytes": 524_289},
    {"max_file_bytes": 104_857_601},
    {"max_file_bytes": "unlimited"},
    {"max_files": 2**63},
    {"max_files": -1},
    {"min_free_bytes": -1},
    {"flush_level": "LOUD"},
    {"flush_level": "40"},
    {"flush_level": True},
    {"overflow": "drop"},
    {"overflow": None},
    {"compress": "bz2"},
    {"fsync": "always"},
    {"crash_safe": 1},
    {"enabled": "yes"},
    {"context": "app"},
    {"context": ["app"]},
    {"file_mode": 640},
    {"file_mode": 0o755},
    {"file_mode": "0o777"},
    {"file_mode": "0640\n"},
    {"file_mode": 0o400},
]


def holding(entry: dict[str, object]) -> dict[str, Any]:
    return {"version": 1, "handlers": {"events": entry}, "root": {"level": "INFO", "handlers": ["events"]}}


@pytest.mark.parametrize("values", GOOD, ids=str)
def test_a_good_entry_is_accepted(values: dict[str, object]) -> None:
    """What the reference allows is valid, alone and in a whole configuration, and is what `Settings` takes."""
    VALIDATOR.validate(ENTRY | values)
    WHOLE.validate(holding(ENTRY | values))
    assert loads(**{key: value for key, value in values.items() if key in KEYS})


@pytest.mark.parametrize("values", BAD, ids=str)
def test_a_bad_entry_is_refused(values: dict[str, object]) -> None:
    """What breaks a rule is invalid, alone and in a whole configuration."""
    assert not accepts(**values)
    assert WHOLE.is_valid(holding(ENTRY | values)) is ("class" in values)


@pytest.mark.parametrize("missing", ENTRY)
def test_an_entry_needs_its_class_and_its_directory(missing: str) -> None:
    """Neither has a default."""
    entry = {key: value for key, value in ENTRY.items() if key != missing}

    assert not VALIDATOR.is_valid(entry)
    assert WHOLE.is_valid(holding(entry)) is (missing == "class")


TOML = """
version = 1
disable_existing_loggers = false

[handlers.events]
class = "jsonl_handler.JsonlHandler"
directory = "logs"
strict = true
max_files = "unlimited"
file_mode = "0640"
context = { app = "shop" }

[handlers.console]
class = "logging.StreamHandler"
stream = "ext://sys.stderr"

[loggers."shop.payments"]
level = "DEBUG"
propagate = true

[root]
level = "INFO"
handlers = ["events", "console"]
"""
YAML = """
version: 1
disable_existing_loggers: false
formatters:
  jsonl: {class: jsonl_handler.JsonlFormatter, static_fields: {app: shop}}
filters:
  mine: {name: shop}
handlers:
  events:
    class: jsonl_handler.JsonlHandler
    directory: logs
    formatter: jsonl
    filters: [mine]
    max_files: null
    file_mode: 0640
    strict: yes
loggers:
  shop: {level: DEBUG, handlers: [events], propagate: no}
"""
FAULTS = [
    ("version = 1", "version = 2"),
    ("version = 1", ""),
    ("disable_existing_loggers = false", 'disable_existing_loggers = "false"'),
    ('directory = "logs"', ""),
    ('directory = "logs"', 'directory = "logs"\nfilename = "x"'),
    ('"unlimited"', "-1"),
    ('"0640"', '"0777"'),
    ('{ app = "shop" }', '"shop"'),
    ('level = "DEBUG"', 'level = "debug"'),
    ("propagate = true", 'propagate = "no"'),
    ("propagate = true", "propagates = true"),
    ('handlers = ["events", "console"]', 'handlers = "events"'),
    ('handlers = ["events", "console"]', "handler = []"),
    ('level = "INFO"', 'level = "INFO"\npropagate = false'),
]


def test_whole_files_are_accepted() -> None:
    """A whole configuration is valid as TOML, as JSON and as YAML."""
    parsed = tomllib.loads(TOML)
    WHOLE.validate(parsed)
    WHOLE.validate(json.loads(json.dumps({"$schema": "logging.schema.json"} | parsed)))
    WHOLE.validate({"version": 1, "incremental": True, "handlers": {"events": {"level": "DEBUG"}}})
    yaml = pytest.importorskip("yaml")
    WHOLE.validate(yaml.safe_load(YAML))


@pytest.mark.parametrize(("good", "bad"), FAULTS)
def test_a_fault_in_a_whole_file_is_found(good: str, bad: str) -> None:
    """Each of these faults makes the whole configuration invalid."""
    assert TOML.count(good) == 1

    assert not WHOLE.is_valid(tomllib.loads(TOML.replace(good, bad)))


@pytest.mark.parametrize(("good", "bad"), [("version = 1", "version = 1"), *FAULTS])
def test_configure_says_the_same_of_a_whole_file(
    good: str, bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the schema finds wrong in a file `configure` refuses, and it takes what the schema accepts."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "logging.toml"
    path.write_text(TOML.replace(good, bad), encoding="utf-8")

    if good == bad:
        jsonl_handler.configure(path).close()
    else:
        with pytest.raises(ConfigError):
            jsonl_handler.configure(path)


def test_other_handlers_are_not_judged() -> None:
    """An entry of another class, or of a factory, may hold anything."""
    for other in ({"class": "logging.FileHandler", "filename": "x", "max_files": -1}, {"()": "my.factory", "x": 1}):
        WHOLE.validate(holding(other))


def test_the_application_s_own_levels_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A level that was added before the call is valid, in the forms in which it is looked up."""
    for number, name in ((27, "NOTICE"), (5, "Trace+"), (6, "a b-c")):
        monkeypatch.setitem(logging._nameToLevel, name, number)
    validator = Validator(json_schema())

    for name in ("NOTICE", "notice", "Trace+", "TRACE+", "Tracee", "a b-c", "A b-c", "warn"):
        assert validator.is_valid(ENTRY | {"flush_level": name}) is loads(flush_level=name), name
        assert validator.is_valid(ENTRY | {"level": name}) is (name in logging._nameToLevel), name


# Beside what any JSON value may be, what lies at the edges of the rules.
EDGES = sorted({edge for rule in RULES.values() for edge in (rule.floor, rule.ceiling) if edge is not None})
NEAR = [edge + step for edge in EDGES if math.isfinite(edge) for step in (-1, 0, 1)]
INTEGERS = st.integers() | st.sampled_from([*map(int, NEAR), 500, 501, 524_288, 524_289, 104_857_600, 104_857_601])
NUMBERS = INTEGERS | st.floats(allow_nan=False) | st.sampled_from([10**400, -(10**400)])
WORDS = ["unlimited", "Unlimited", "unlimited\n", "", "ERROR", "warn", "Notset", "40", "never", "block", "gzip", "zstd"]
TEXTS = (
    st.text(max_size=12)
    | st.sampled_from([*WORDS, *(choice for rule in RULES.values() for choice in rule.choices)])
    | st.from_regex(r"(?i)\A(unlimited|notset|critical)\Z", alphabet=st.characters(codec="ascii"))
)
MODES = st.integers(0o600, 0o700)
PLAIN = st.none() | st.booleans() | NUMBERS | MODES | TEXTS
JSON = PLAIN | st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)


def is_said_differently(key: str, value: object) -> bool:
    """What only one side can tell, as the reference says."""
    if isinstance(value, float) and value.is_integer():
        # For JSON Schema 100.0 is an integer; for `Settings` it is none.
        return key not in ("flush_interval", "overflow_timeout", "close_timeout", "max_age_days")
    if key == "compress" and value == "zstd":
        # What is installed decides.
        return not is_available("zstd")
    return False


@pytest.mark.parametrize("key", KEYS)
@given(value=JSON)
@hypothesis_settings(max_examples=150, deadline=None)
def test_the_schema_agrees_with_the_settings(key: str, value: object) -> None:
    """Of any JSON value of a setting the schema says what `Settings.load` with strict says."""
    if not is_said_differently(key, value):
        assert accepts(**{key: value}) is loads(**{key: value})


@given(values=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5))
@hypothesis_settings(max_examples=300, deadline=None)
def test_what_the_schema_refuses_is_refused_by_the_settings(values: dict[str, object]) -> None:
    """Of several settings the schema refuses none that `Settings` takes; two values it can't compare."""
    if any(is_said_differently(key, value) for key, value in values.items()):
        return
    crossed = any(key in values and other in values for key, other in OTHER.items())
    if not accepts(**values):
        assert not loads(**values)
    elif not crossed:
        assert loads(**values)


def test_the_schema_agrees_about_every_mode() -> None:
    """Each mode there is, as a number and in each spelling, is valid when `Settings` takes it."""
    for mode in range(-1, 0o2000):
        for value in (mode, f"{mode:o}", f"0{mode:o}", f"0o{mode:o}", f"0O{mode:o}"):
            assert accepts(file_mode=value) is loads(file_mode=value), value


@given(prefix=st.text(max_size=70) | st.from_regex(r"[A-Za-z0-9._-]{1,66}"))
@hypothesis_settings(max_examples=300, deadline=None)
def test_the_schema_agrees_about_prefixes(prefix: str) -> None:
    """A prefix is valid when a handler takes it."""
    try:
        check_prefix(prefix)
    except ConfigError:
        assert not accepts(prefix=prefix)
    else:
        assert accepts(prefix=prefix)


def test_what_the_schema_can_not_say() -> None:
    """The differences that the reference lists are there, so that the list stays true."""
    accepted_too = [
        {"max_files": 100.0},
        {"flush_level": 40.0},
        {"flush_interval": math.nan},
        {"flush_batch_size": 20, "buffer_limit": 10},
        {"context": {"x": [0] * 10_001}},
    ]
    for values in accepted_too:
        assert accepts(**values)
        assert not loads(**values)


def blocks(language: str) -> list[tuple[str, str]]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [(page.name, block) for page in PAGES for block in pattern.findall(page.read_text(encoding="utf-8"))]


def value_of(node: ast.expr) -> Any:
    """The value of a literal, of ``8 * 1024`` in it too."""
    return eval(compile(ast.Expression(node), "docs", "eval"), {"__builtins__": {}})


def configurations() -> list[Any]:
    """Every configuration that the pages show, in whatever language."""
    found = []
    for language in ("python", "py"):
        for page, block in blocks(language):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.Dict) and any(getattr(key, "value", None) == "version" for key in node.keys):
                    found.append(pytest.param(value_of(node), id=page))
    for page, block in blocks("toml"):
        parsed = tomllib.loads(block)
        for table in (parsed, parsed.get("tool", {}).get("shop", {}).get("logging", {})):
            if "version" in table:
                found.append(pytest.param(table, id=page))
    for page, block in blocks("json"):
        if '"version"' in block:
            found.append(pytest.param(json.loads(block), id=page))
    return found


@pytest.mark.parametrize("configuration", configurations())
def test_the_configurations_of_the_docs_are_valid(configuration: Any) -> None:
    """Each example in the README and the docs satisfies the schema of a whole configuration."""
    WHOLE.validate(configuration)


def test_the_yaml_of_the_docs_is_valid() -> None:
    """Each example in YAML satisfies it too, the file inside a ConfigMap included."""
    yaml = pytest.importorskip("yaml")
    parsed = [part for _, block in blocks("yaml") for part in yaml.safe_load_all(block)]
    whole = [part for part in parsed if "version" in part]
    mounted = [
        tomllib.loads(text) for part in parsed if part.get("kind") == "ConfigMap" for text in part["data"].values()
    ]

    assert whole
    assert mounted
    for configuration in whole + mounted:
        WHOLE.validate(configuration)


@pytest.mark.parametrize("whole", [False, True])
def test_the_command_prints_the_schema(whole: bool, tmp_path: Path) -> None:
    """`python -m jsonl_handler schema` writes the same schema to stdout, as JSON, and nothing else."""
    pytest.importorskip("typer")
    command = [sys.executable, "-m", "jsonl_handler", "schema", *(["--whole"] if whole else [])]
    environment = os.environ | {"PYTHONPATH": str(Path(jsonl_handler.__file__).parent.parent)}

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == json_schema(whole=whole)


def test_an_import_of_the_package_does_not_load_the_schema() -> None:
    """Who does not ask for the schema does not pay for it; who does finds it under its public name."""
    probe = (
        "import sys, jsonl_handler; loaded = 'jsonl_handler._schema' in sys.modules;"
        "from jsonl_handler import *; assert callable(json_schema); print(loaded)"
    )

    environment = os.environ | {"PYTHONPATH": str(Path(jsonl_handler.__file__).parent.parent)}

    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("False\n", "")
    assert jsonl_handler.json_schema is json_schema
    with pytest.raises(AttributeError, match="no attribute 'jsonschema'"):
        jsonl_handler.jsonschema  # noqa: B018
