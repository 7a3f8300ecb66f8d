"""``python -m jsonl_handler``."""

from __future__ import annotations

from jsonl_handler.cli import main

# The guard matters: a process that multiprocessing spawns imports this module again.
if __name__ == "__main__":
    main()
