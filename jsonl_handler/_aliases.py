"""What people call our settings elsewhere, and the answer to an unknown key.

Nothing is translated silently: an alias is only ever named in an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ARGUMENTS = ("directory", "prefix", "session_id", "level", "strict", "formatter", "filters")
"""What a handler takes beside its settings."""

# Our name, then what the stdlib, loguru, logback, Log4j2, Serilog, winston, lumberjack and others call it.
_NAMES = {
    "directory": (
        "filename base_filename file file_name file_path filepath dir path log_dir log_directory"
        " log_file log_path folder out_dir output_dir destination sink"
    ),
    "prefix": "file_prefix filename_prefix basename stem app_name",
    "session_id": "session session_name run_id",
    "level": "log_level loglevel min_level",
    "flush_interval": (
        "flush_interval_ms flush_interval_s flush_interval_seconds flush_interval_sec flush_every"
        " flush_seconds flush_period flush_delay schedule_delay schedule_delay_millis"
        " batch_interval"
    ),
    "flush_batch_size": ("batch_size max_batch_size max_export_batch_size batch flush_size flush_count flush_records"),
    "flush_level": "flush_on trigger_level flush_at_level",
    "buffer_limit": (
        "capacity maxsize queue_size queue_limit queue_capacity max_queue_size max_queue buffer"
        " max_buffer max_buffered max_records buffer_records"
    ),
    "buffer_bytes": "buffer_size_bytes max_buffer_bytes queue_bytes",
    "overflow": (
        "overflow_policy on_overflow on_full queue_full_policy drop_policy discard_policy"
        " overflow_strategy async_queue_full_policy"
    ),
    "overflow_timeout": "block_timeout blocking_timeout put_timeout offer_timeout max_block",
    "max_record_bytes": (
        "max_record_size max_line_bytes max_line_size max_line_length max_message_bytes"
        " max_message_size max_event_bytes max_event_size"
    ),
    "max_file_bytes": (
        "max_bytes max_size max_file_size max_filesize file_size size size_limit rotation"
        " rotate_size rotation_size max_log_size log_max_size max_segment_bytes"
        " file_size_limit_bytes maximum_file_size"
    ),
    "max_files": (
        "backup_count backups backup max_backups max_backup max_file_count keep keep_files"
        " file_count max_size_roll_backups retained_file_count_limit max_rolls retention_count"
    ),
    "max_age_days": (
        "retention retention_days retention_time max_age max_days keep_days days ttl expire"
        " expire_days max_history max_file_age retained_file_time_limit"
    ),
    "max_total_bytes": (
        "total_size_cap max_total_size total_bytes total_size max_dir_size max_directory_size"
        " max_disk_usage disk_limit system_max_use"
    ),
    "min_free_bytes": "min_free min_free_space keep_free system_keep_free reserve reserved_bytes",
    "compress": "compression compressor compression_format compress_format gzip gz zip zipped_archive zstd compressed",
    "fsync": "sync durable durability sync_writes fdatasync fsync_policy sync_on_flush",
    "enabled": "enable active on",
    "context": "header metadata meta resource tags header_fields",
    "file_mode": "permissions permission perm perms chmod umask file_permissions",
    "close_timeout": "shutdown_timeout stop_timeout exit_timeout drain_timeout atexit_timeout",
}

_BY_DATE = "files are cut by date at UTC midnight by themselves; remove it"
_ALWAYS_UTF8 = "files are always UTF-8; remove it"
_BY_ITSELF = "the buffer and its writer thread are built in; remove it"
_IN_FORMATTER = "it belongs to the formatter, not to the handler"
_NEVER_RENAMED = "names are fixed and no file is ever renamed; remove it"
_HINTS = {
    **dict.fromkeys(("when", "interval", "at_time", "utc", "date_pattern", "rolling_interval"), _BY_DATE),
    **dict.fromkeys(("encoding", "errors"), _ALWAYS_UTF8),
    **dict.fromkeys(("enqueue", "queue", "target", "handlers", "listener", "respect_handler_level"), _BY_ITSELF),
    **dict.fromkeys(("fmt", "format", "datefmt", "style", "static_fields", "rename_fields"), _IN_FORMATTER),
    **dict.fromkeys(("namer", "rotator", "suffix", "ext_match", "symlink"), _NEVER_RENAMED),
    "delay": "the file is always opened with the first record; remove it",
    "mode": "files are always appended to; remove it (a file's permissions are file_mode)",
    "serialize": "lines are always JSON; remove it",
    "stream": "this handler writes files; use logging.StreamHandler for a stream",
    "flush_on_close": "close() always drains, for at most close_timeout; remove it",
    "buffer_size": "use buffer_limit (records) or buffer_bytes (bytes)",
    "timeout": "use close_timeout or overflow_timeout (seconds)",
    **dict.fromkeys(("block", "blocking"), 'use overflow: "block"'),
    **dict.fromkeys(("disabled", "disable"), "use enabled: false"),
}
_ALIASES = {alias: ours for ours, aliases in _NAMES.items() for alias in aliases.split()}


def advice(key: str, units: Mapping[str, str]) -> str:
    """What to write instead of the unknown *key*; *units* has each valid key and its unit."""
    # Nobody's key is longer, and comparing spellings takes the square of the length.
    key = key[:64]
    if key in ARGUMENTS:
        return "it is an argument of JsonlHandler, not one of its settings"
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-. ]+", "_", key).lower()
    for spelled, answers in ((snake, _answers(units)), (_squeezed(snake), _squeezed_answers(units))):
        if spelled in answers:
            return answers[spelled]
    # It is slow to import, and only a mistake asks for it.
    import difflib

    near = difflib.get_close_matches(snake, (*units, *ARGUMENTS), n=1)
    return _use(near[0], units) if near else f"the settings are {', '.join(units)}"


def _answers(units: Mapping[str, str]) -> dict[str, str]:
    ours = {key: _use(key, units) for key in (*ARGUMENTS, *units)}
    return {alias: _use(key, units) for alias, key in _ALIASES.items()} | _HINTS | ours


def _squeezed_answers(units: Mapping[str, str]) -> dict[str, str]:
    return {_squeezed(name): answer for name, answer in _answers(units).items()}


def _squeezed(name: str) -> str:
    return name.replace("_", "")


def _use(key: str, units: Mapping[str, str]) -> str:
    if key in ARGUMENTS:
        return f"use {key}, an argument of JsonlHandler"
    return f"use {key} ({units[key]})" if units.get(key) else f"use {key}"
