"""What a handler was given as settings, and what a change makes of it: all of it counts, or nothing.

It only decides; who has to know of a change is told by the handlers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from jsonl_handler.errors import ConfigError
from jsonl_handler.settings import Problem, Settings, known, without_memory

_FIXED = {
    "directory": "a handler keeps its directory; build a new handler, as `configure` does",
    "prefix": "a handler keeps its prefix; build a new handler, as `configure` does",
    "session_id": "a handler keeps its session; build a new handler, as `configure` does",
    "strict": "it is no setting; give it to the constructor, or to `replace_settings`",
    "level": "it is no setting; call `setLevel`",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The values as they were *given*, so that a later change of others leaves them what they were, and what they mean.

    An invalid deletion limit stays suspended until its key is given anew.
    """

    given: Mapping[str, object]
    strict: bool
    settings: Settings
    problems: tuple[Problem, ...]

    @classmethod
    def of(cls, given: Mapping[str, object], *, strict: bool) -> Self:
        """Check *given* (see `Settings.load`): raises `ConfigError`."""
        kept = known(given)
        settings, problems = Settings.load(kept, strict=strict)
        if settings.context is not None:
            # Whose mapping it was may change it later.
            kept["context"] = settings.context
        return cls(kept, strict, settings, tuple(problems))

    def changed(self, given: Mapping[str, object]) -> Choice:
        """The same with other values for some keys."""
        return Choice.of({**self.given, **given}, strict=self.strict)

    def without_memory(self, why: str, before: Choice | None = None) -> Choice:
        """The same where the system refuses the memory (*why*): with the `buffer_bytes` of *before*, or the default.

        Raises `ConfigError` instead if it is strict.
        """
        instead = {key: value for key, value in (before.given if before else {}).items() if key == "buffer_bytes"}
        settings, refused = without_memory(self.given, why, strict=self.strict, instead=instead)
        given = {key: value for key, value in self.given.items() if key != "buffer_bytes"}
        return Choice({**given, **instead}, self.strict, settings, (refused, *self.problems))

    def news(self, before: Choice, given: Mapping[str, object]) -> list[Problem]:
        """The problems with the values *given* now, and with others that have come by them."""
        return [problem for problem in self.problems if problem.key in given or problem not in before.problems]


def check_changeable(given: Mapping[str, object]) -> None:
    """Raise `ConfigError` for what can't be changed in place."""
    for key, remedy in _FIXED.items():
        if key in given:
            raise ConfigError(None, key, f"can't be changed here: {remedy}")
