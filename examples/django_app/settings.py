"""Settings of the example: only what a view and its log need.

Every gunicorn worker reads this by itself, after the fork, so each has a session of its own.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

HERE = Path(__file__).parent

# A new key with every start is enough here: nothing is signed.
SECRET_KEY = secrets.token_hex(32)
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "urls"
WSGI_APPLICATION = "wsgi.application"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "jsonl": {"class": "jsonl_handler.JsonlFormatter", "format": "%(process)d"},
    },
    "handlers": {
        "jsonl": {
            "class": "jsonl_handler.JsonlHandler",
            "formatter": "jsonl",
            "directory": os.environ.get("APP_LOG_DIRECTORY", str(HERE / "logs")),
            "prefix": "web",
            "flush_interval": 1.0,
            "buffer_limit": 5000,
        },
    },
    "root": {"level": "INFO", "handlers": ["jsonl"]},
}
