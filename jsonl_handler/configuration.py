"""`configure`: a logging configuration from a mapping or a file, which may change while the program runs.

What a configuration means is not known here, but only when it is read and what becomes of a refused one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jsonl_handler._config_apply import apply
from jsonl_handler._config_file import Look, look, read
from jsonl_handler._config_plan import Running
from jsonl_handler._config_report import PlannedHandler, PlannedLogger, Report, report
from jsonl_handler._config_source import FORMATS, parse, plain
from jsonl_handler._fork import start_over_in_children
from jsonl_handler._maintenance import speak_now
from jsonl_handler._rules import shown
from jsonl_handler._sighup import Hangup
from jsonl_handler._status import Voice
from jsonl_handler._watch import Watch
from jsonl_handler.errors import ConfigError

__all__ = ["Configuration", "PlannedHandler", "PlannedLogger", "Report", "check", "configure"]

Source = Mapping[str, Any] | str | os.PathLike[str]

_present: Configuration | None = None


class _Turn:
    """One thread at a time configures."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def start_over(self) -> None:
        """In a forked child: another thread may have had it."""
        self.lock = threading.RLock()


_turn = _Turn()


def configure(source: Source, *, watch: float | None = None, table: str | None = None) -> Configuration:
    """Configure logging from *source*, and again whenever it changes, if that is asked for.

    *source* is a mapping as `logging.config.dictConfig` takes it, or the path of a ``.toml``,
    ``.json`` or ``.yaml`` file (YAML needs the extra ``yaml``). *table* names a table inside of
    it, with dots: ``"tool.myapp.logging"``. With *watch* a thread looks that many seconds apart
    whether the file has changed; such a file must not be writable for everybody.

    An earlier configuration ends, and what both have in common stays. Raises `ConfigError` for one
    that can't be used, and then nothing has changed.
    """
    global _present
    start_over_in_children(_turn)
    with _turn.lock:
        configuration = Configuration(source, watch, table, _present)
        before, _present = _present, configuration
        if before is not None:
            before._closed = True
    if before is not None:
        # Not under our lock: its watch may wait for that.
        before.close()
    configuration._begin()
    return configuration


def check(source: Source, *, table: str | None = None) -> Report:
    """Look through what `configure` would be given: what is wrong with it, all of it, and what would run.

    No handler is made and nothing is started; but the modules that it names are imported.
    """
    try:
        origin = _Source(source, table)
        mapping, _ = origin.load(watched=False)
    except ConfigError as error:
        return Report([str(error)])
    return report(mapping, origin.named)


class Configuration:
    """What `configure` has made of its source, and may make of it again; `configure` alone makes one.

    Handlers stay when it is closed. As a context manager it closes itself.
    """

    def __init__(self, source: Source, watch: float | None, table: str | None, before: Configuration | None) -> None:
        self._source = _Source(source, table)
        self._interval = _checked(watch, self._source)
        self._voice = Voice()
        self._told: str | None = None
        self._lock = threading.RLock()
        start_over_in_children(self)
        self._busy = self._closed = False
        self._watch: Watch | None = None
        self._hangup: Hangup | None = None
        self._seen: Look | None = None
        self._noticed: Look | None = None
        self._error: ConfigError | None = None
        self._generation = 1
        mapping, self._seen = self._source.load(watched=watch is not None)
        running = before._running if before is not None else Running()
        self._running: Running = apply(mapping, self._source.named, running, self._voice, anew=True)

    def _begin(self) -> None:
        if self._interval is not None:
            self._watch = Watch(self._interval, self._look, self.reload, self._voice)
            self._watch.start()
        speak_now(self._voice)

    @property
    def generation(self) -> int:
        """How often a configuration was applied: 1 after the first, one more with each change."""
        return self._generation

    @property
    def last_error(self) -> ConfigError | None:
        """Why the source was refused when it was read last; None when it was not."""
        return self._error

    def reload(self) -> bool:
        """Read the source again and apply what has changed; True also when nothing has.

        False when it is refused: then all goes on as before, `last_error` says why, and it is told
        on the logger ``jsonl_handler``, once for each reason. Never raises an `Exception`.
        """
        with self._lock:
            if self._busy:
                # A handler that is being made, or closed, asks for it.
                return False
            self._busy = True
            try:
                self._reload()
                self._note(None)
            except ConfigError as error:
                self._note(error)
            except Exception as error:
                self._note(ConfigError(self._source.named, "", f"can't be applied: {error!r}"))
            finally:
                self._busy = False
            done = self._error is None
        self._speak()
        return done

    def reload_on_sighup(self) -> None:
        """Reload at each SIGHUP, on the watching thread; what the program did at it before, it still does.

        Raises `ConfigError` outside of the main thread, where there is no such signal, and for a file that
        others may write.
        """
        if self._hangup is not None or self._closed:
            return
        self._source.load(watched=True)
        watch = self._watch or Watch(None, self._look, self.reload, self._voice)
        self._hangup = Hangup(watch.ring)
        self._watch = watch
        watch.start()

    def close(self) -> None:
        """Look no more, and leave SIGHUP as it was; the handlers stay, and `reload` refuses."""
        self._closed = True
        if self._hangup is not None:
            self._hangup.end()
            self._hangup = None
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        speak_now(self._voice)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._source.named or 'of a mapping'}, generation {self._generation}>"

    def _reload(self) -> None:
        mapping, self._seen = self._source.load(watched=self._watch is not None)
        with _turn.lock:
            if self._closed:
                raise ConfigError(self._source.named, "", "this configuration is closed; call configure() again")
            running = apply(mapping, self._source.named, self._running, self._voice, anew=False)
            self._generation += running is not self._running
            self._running = running

    def _look(self) -> None:
        """On the watching thread: reload when the file looks different, and twice the same."""
        now = self._source.look()
        if now != self._seen and now == self._noticed:
            # Also when it is refused: it is read again when it has changed again.
            self._seen = now
            self.reload()
        self._noticed = now
        self._voice.speak()

    def _note(self, error: ConfigError | None) -> None:
        """Keep *error*, and queue what is to be told of it."""
        self._error = error
        text = str(error) if error is not None else None
        if text == self._told:
            return
        if error is not None:
            self._voice.tell("configuration", f"refused, and the old one stays: {error}")
        else:
            self._voice.tell("configuration", f"{self._source.named or 'the mapping'} can be used again")
        self._told = text

    def _speak(self) -> None:
        # Not `speak_now`: a file that is wrong in ever new ways is told of at most once a minute.
        if self._watch is None:
            speak_now(self._voice)
        else:
            self._voice.speak()

    def start_over(self) -> None:
        """In a forked child: another thread may have been at it."""
        self._lock = threading.RLock()
        self._busy = False
        self._voice = Voice()
        if self._watch is not None:
            self._watch.voice = self._voice


class _Source:
    """Where a configuration comes from."""

    def __init__(self, source: object, table: str | None) -> None:
        if table is not None and not isinstance(table, str):
            raise ConfigError(None, "table", f"must be a text with dots, got {shown(table)}")
        self._table = table
        self._mapping: Mapping[str, Any] | None = None
        self._path = Path()
        self.named: str | None = None
        if isinstance(source, Mapping):
            self._mapping = source
            return
        named: object = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
        if not isinstance(named, str):
            raise ConfigError(None, "source", f"must be a mapping or a path, got {shown(source)}")
        self.named = named
        # The program may change its working directory later.
        self._path = Path(os.path.abspath(self.named))
        if self._path.suffix.lower() not in FORMATS:
            raise ConfigError(self.named, "", f"must end in {', '.join(FORMATS)}: that says how it is read")

    @property
    def is_file(self) -> bool:
        return self._mapping is None

    def look(self) -> Look | None:
        return look(self._path)

    def load(self, *, watched: bool) -> tuple[dict[str, Any], Look | None]:
        if self._mapping is not None:
            return plain(self._mapping, None, self._table), None
        assert self.named is not None
        content, seen = read(self._path, self.named, watched=watched)
        return parse(content, self._path, self.named, self._table), seen


def _checked(watch: object, source: _Source) -> float | None:
    if watch is None:
        return None
    if isinstance(watch, bool) or not isinstance(watch, int | float) or not 0 < watch <= threading.TIMEOUT_MAX:
        raise ConfigError(None, "watch", f"must be a number of seconds over 0, got {shown(watch)}")
    if not source.is_file:
        raise ConfigError(None, "watch", "only a file can be watched; after changing the mapping call reload()")
    return float(watch)
