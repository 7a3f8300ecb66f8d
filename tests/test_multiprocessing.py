"""Children of `multiprocessing` and `concurrent.futures`, however they are started, keep every record."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from children import run
from conftest import lines_of, segments_of

import jsonl_handler

METHODS = multiprocessing.get_all_start_methods()
TASKS = 40

# The recipe of the tutorial: a parent configures itself, and so does each child that is started afresh.
RECIPE = f"""
    import concurrent.futures, logging.config, multiprocessing

    def configure():
        logging.config.dictConfig({{
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {{"jsonl": {{"class": "jsonl_handler.JsonlHandler", "directory": directory}}}},
            "root": {{"level": "INFO", "handlers": ["jsonl"]}},
        }})

    def work(number):
        logging.getLogger("app").info("child", extra={{"number": number, "by": os.getpid()}})
        return number

    def work_alone(number, afresh):
        if afresh:
            configure()
        for index in range({TASKS}):
            work(index)

    if __name__ == "__main__":
        configure()
        log.info("parent", extra={{"by": os.getpid()}})
        method = METHOD
        context = multiprocessing.get_context(method)
        afresh = method != "fork"
        initializer = configure if afresh else None
"""


def program(method: str, body: str) -> str:
    """The recipe, and what the parent does with it."""
    return RECIPE.replace("METHOD", repr(method)) + body


def check(logs: Path, times: int) -> None:
    """Each number was logged *times* times, each process has a session and files of its own."""
    lines = lines_of(logs)
    numbers = [line["number"] for line in lines if line["message"] == "child"]
    assert sorted(numbers) == sorted(list(range(TASKS)) * times)
    assert [line["message"] for line in lines].count("parent") == 1
    writers: defaultdict[str, set[int]] = defaultdict(set)
    for path in segments_of(logs):
        for line in lines_of(path):
            assert line["session"] in path.name
            writers[line["session"]].add(line["by"])
    assert all(len(processes) == 1 for processes in writers.values())


@pytest.mark.parametrize("method", METHODS)
def test_a_process_keeps_its_records(tmp_path: Path, method: str) -> None:
    """What a `Process` logs is in a file of its own when it has ended, by itself and with exit code 0."""
    body = """
        processes = [context.Process(target=work_alone, args=(number, afresh)) for number in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)
            assert process.exitcode == 0
    """
    run(program(method, body), tmp_path / "logs")
    check(tmp_path / "logs", 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_that_is_closed_and_joined_keeps_its_records(tmp_path: Path, method: str) -> None:
    """The workers of a `Pool` end by themselves after `close()`, and keep all that they logged."""
    body = f"""
        pool = context.Pool(2, initializer)
        assert pool.map(work, range({TASKS}), chunksize=1) == list(range({TASKS}))
        pool.close()
        pool.join()
    """
    run(program(method, body), tmp_path / "logs")
    check(tmp_path / "logs", 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_process_pool_executor_keeps_its_records(tmp_path: Path, method: str) -> None:
    """The workers of a `ProcessPoolExecutor` keep all that they logged."""
    body = f"""
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context, initializer=initializer) as pool:
            assert list(pool.map(work, range({TASKS}))) == list(range({TASKS}))
    """
    run(program(method, body), tmp_path / "logs")
    check(tmp_path / "logs", 1)


@pytest.mark.parametrize("method", METHODS)
def test_the_recipe_of_the_tutorial(tmp_path: Path, method: str) -> None:
    """The tutorial's program keeps all records, however its children are started."""
    tutorial = Path(__file__).resolve().parent.parent / "docs" / "tutorial.md"
    blocks = re.findall(r"^```py\n(.*?)^```$", tutorial.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (recipe,) = [block for block in blocks if "ProcessPoolExecutor" in block]
    program = tmp_path / "program.py"
    program.write_text(recipe.replace("get_context()", f"get_context({method!r})"))
    env = os.environ | {"PYTHONPATH": str(Path(jsonl_handler.__file__).parent.parent), "PYTHONWARNINGS": "ignore"}
    with open(tmp_path / "output", "w+") as output:
        command = [sys.executable, program]
        done = subprocess.run(command, cwd=tmp_path, env=env, stdout=output, stderr=output, timeout=60, check=False)
        output.seek(0)
        assert (done.returncode, output.read()) == (0, "")
    assert sorted(line["number"] for line in lines_of(tmp_path / "logs")) == list(range(100))
