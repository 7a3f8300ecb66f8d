"""Who is measured: a table of names, of what must be installed, and of how each is set up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from benchmarks import ours, peers
from benchmarks.calls import Place, Rig

PYTHON_JSON_LOGGER = "python-json-logger"


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the tables.

    *silent* writes nothing; *bare* writes no extras.
    """

    name: str
    label: str
    build: Callable[[Place], Rig]
    needs: tuple[str, ...] = ()
    silent: bool = False
    bare: bool = False

    @property
    def missing(self) -> str | None:
        """Why it can't run here, in words."""
        absent = [name for name in self.needs if not _is_installed(name)]
        return f"not installed: {', '.join(absent)}" if absent else None


def _stdlib(kind: str, *needs: str) -> list[Contender]:
    packages = (PYTHON_JSON_LOGGER, *needs)
    name = kind.lower()
    return [
        Contender(f"rotating-{name}", f"RotatingFileHandler + {kind}Formatter", peers.rotating(kind), packages),
        Contender(f"queue-{name}", f"QueueHandler pair + {kind}Formatter", peers.queued(kind), packages),
        Contender(
            f"concurrent-{name}",
            f"concurrent-log-handler + {kind}Formatter",
            peers.concurrent(kind),
            ("concurrent-log-handler", *packages),
        ),
    ]


_WITH_ORJSON = (PYTHON_JSON_LOGGER, "orjson")

CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("null", "NullHandler", ours.null, silent=True),
        Contender("ours", "jsonl_handler", ours.with_orjson, ("orjson",)),
        Contender("ours-json", "jsonl_handler without orjson", ours.with_stdlib_json),
        Contender("ours-structlog", "structlog + orjson → handler.write", ours.from_structlog, ("structlog", "orjson")),
        Contender("null-console", "console handler + NullHandler", ours.null_behind_console, silent=True),
        Contender("ours-console", "console handler + jsonl_handler", ours.behind_console, ("orjson",)),
        Contender("choice-interval", "flush_interval=1.0", ours.with_settings(flush_interval=1.0), ("orjson",)),
        Contender("choice-buffer", "buffer_limit=5000", ours.with_settings(buffer_limit=5000), ("orjson",)),
        Contender("choice-journal", "crash_safe=False", ours.with_settings(crash_safe=False), ("orjson",)),
        Contender("choice-formatter", "JsonlFormatter()", ours.with_formatter(), ("orjson",)),
        Contender(
            "choice-options",
            'JsonlFormatter(static_fields={"app": "shop"})',
            ours.with_formatter(static_fields={"app": "shop"}),
            ("orjson",),
        ),
        Contender("choice-threads", "logging.logThreads = False and its kin", ours.without(caller=True), ("orjson",)),
        Contender("choice-caller", "the same, and logging._srcfile = None", ours.without(caller=False), ("orjson",)),
        Contender("choice-write", "handler.write, without a logger", ours.by_write, ("orjson",)),
        *_stdlib("Json"),
        *_stdlib("Orjson", "orjson"),
        *_stdlib("Msgspec", "msgspec")[:1],
        Contender("structlog", "structlog + orjson + BytesLogger", peers.structlog_bytes, ("structlog", "orjson")),
        Contender("loguru", "loguru serialize", peers.loguru(enqueue=False), ("loguru",)),
        Contender("loguru-enqueue", "loguru serialize, enqueue", peers.loguru(enqueue=True), ("loguru",)),
        Contender(
            "picologging",
            "picologging + OrjsonFormatter (no extras)",
            peers.picologging,
            ("picologging", *_WITH_ORJSON),
            bare=True,
        ),
        Contender("app-log-json", "app-log-json", peers.app_log_json, ("app-log-json",)),
        Contender("logxide", "logxide + OrjsonFormatter", peers.logxide, ("logxide", *_WITH_ORJSON)),
    )
}
"""Each by its name; the first is the floor that ratios refer to."""


CHOICES = tuple(name for name in CONTENDERS if name.startswith("choice-"))
"""What users of ours can choose; they are no peers."""


def packages() -> dict[str, str]:
    """What is installed of all that any contender needs, with its version."""
    names = {name for contender in CONTENDERS.values() for name in contender.needs} | {PYTHON_JSON_LOGGER, "filelock"}
    return {name: version(name) for name in sorted(names) if _is_installed(name)}


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
