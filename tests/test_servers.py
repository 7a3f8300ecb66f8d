"""Real servers and workers that fork, or configure logging after us: each record is one line, whoever logged it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import served
from conftest import PATIENCE, lines_of, segments_of

REQUESTS = 200

pytestmark = [pytest.mark.app, pytest.mark.timeout(120)]


def write(directory: Path, **files: str) -> None:
    """Write modules, dedented, into *directory*."""
    for name, text in files.items():
        (directory / f"{name}.py").write_text(textwrap.dedent(text))


@contextlib.contextmanager
def listener() -> Iterator[socket.socket]:
    """A socket that a server inherits: requests may come before it is up."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as made:
        yield made


def ask(port: int) -> None:
    """Send all requests, one after the other."""
    for number in range(REQUESTS):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("GET", f"/{number}")
        assert connection.getresponse().read() == b"ok"
        connection.close()


def check_writers(logs: Path, least: int) -> None:
    """Each session was one process's alone, and there are at least *least* of them."""
    writers: defaultdict[str, set[int]] = defaultdict(set)
    for path in segments_of(logs):
        for line in lines_of(path):
            assert line["session"] in path.name
            if "by" in line:
                writers[line["session"]].add(line["by"])
    assert len(writers) >= least
    assert all(len(processes) == 1 for processes in writers.values())


CONFIGURED = """
    import logging.config

    def configure():
        logging.config.dictConfig({
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"jsonl": {"class": "jsonl_handler.JsonlHandler", "directory": "logs"}},
            "root": {"level": "INFO", "handlers": ["jsonl"]},
        })
"""


@pytest.mark.parametrize("preload", [True, False], ids=["--preload", "no preload"])
def test_gunicorn(tmp_path: Path, preload: bool) -> None:
    """The lines of all workers and of the master are there once after a graceful end, with and without `--preload`."""
    pytest.importorskip("gunicorn")
    write(
        tmp_path,
        configured=CONFIGURED,
        wsgi="""
            import logging, os
            from configured import configure

            configure()
            log = logging.getLogger("app")
            log.info("loaded", extra={"by": os.getpid()})

            def application(environ, start_response):
                log.info("request", extra={"number": int(environ["PATH_INFO"][1:]), "by": os.getpid()})
                start_response("200 OK", [("Content-Length", "2")])
                return [b"ok"]
        """,
        settings="""
            import logging, os
            from configured import configure

            def on_starting(server):
                configure()
                logging.getLogger("app").info("starting", extra={"by": os.getpid()})

            def when_ready(server):
                logging.getLogger("app").info("ready", extra={"by": os.getpid()})

            def worker_exit(server, worker):
                logging.getLogger("app").info("worker ends", extra={"by": os.getpid()})

            def on_exit(server):
                logging.getLogger("app").info("ends", extra={"by": os.getpid()})
        """,
    )
    with listener() as made:
        command = ["gunicorn", "--workers", "2", "--threads", "2", "--config", "settings.py"]
        command += ["--bind", f"fd://{made.fileno()}", "--graceful-timeout", "20", "wsgi:application"]
        with served(tmp_path, *command, *["--preload"] * preload, pass_fds=[made.fileno()]) as server:
            ask(made.getsockname()[1])
    assert server.returncode == 0, (tmp_path / "said.txt").read_text()
    lines = lines_of(tmp_path / "logs")
    assert sorted(line["number"] for line in lines if line["message"] == "request") == list(range(REQUESTS))
    said = Counter(line["message"] for line in lines)
    assert [said["starting"], said["ready"], said["ends"]] == [1, 1, 1]
    assert (said["loaded"], said["worker ends"]) == (1 if preload else 2, 2)
    check_writers(tmp_path / "logs", 2)


def test_uvicorn_configures_logging_after_us(tmp_path: Path) -> None:
    """uvicorn's own dictConfig closes our handler, which stays attached: what is logged afterwards is kept."""
    pytest.importorskip("uvicorn")
    write(
        tmp_path,
        configured=CONFIGURED,
        service="""
            import logging, os, signal, sys
            import uvicorn
            from configured import configure

            configure()
            log = logging.getLogger("app")
            log.info("before", extra={"by": os.getpid()})

            async def application(scope, receive, send):
                if scope["type"] == "lifespan":
                    for step in ("startup", "shutdown"):
                        await receive()
                        log.info(step, extra={"by": os.getpid()})
                        await send({"type": f"lifespan.{step}.complete"})
                    return
                log.info("request", extra={"number": int(scope["path"][1:]), "by": os.getpid()})
                headers = [(b"content-length", b"2")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": b"ok"})

            # uvicorn ends itself by the signal that it was sent, once it has shut down.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit())
            uvicorn.run(application, fd=int(sys.argv[1]))
        """,
    )
    with listener() as made, served(tmp_path, "service", str(made.fileno()), pass_fds=[made.fileno()]):
        ask(made.getsockname()[1])
    lines = lines_of(tmp_path / "logs")
    assert [line["number"] for line in lines if line["message"] == "request"] == list(range(REQUESTS))
    said = Counter(line["message"] for line in lines)
    assert [said["before"], said["startup"], said["shutdown"]] == [1, 1, 1]
    # One process, one session, however often it was closed and opened again.
    assert len({line["session"] for line in lines}) == 1
    assert sorted(line["seq"] for line in lines) == list(range(len(lines)))


def test_a_celery_prefork_worker(tmp_path: Path) -> None:
    """What tasks log in the pool's processes is there once after a warm shutdown."""
    pytest.importorskip("celery")
    for name in ("in", "processed", "control"):
        (tmp_path / name).mkdir()
    write(
        tmp_path,
        configured=CONFIGURED,
        tasks="""
            import logging, os, time
            from celery import Celery, signals
            from configured import configure

            app = Celery("tasks", broker="filesystem://")
            app.conf.update(
                broker_transport_options={
                    "data_folder_in": "in", "data_folder_out": "in",
                    "processed_folder": "processed", "control_folder": "control",
                    "polling_interval": 0.01,
                },
                worker_prefetch_multiplier=1,
            )

            @signals.setup_logging.connect
            def set_up(**_):
                configure()

            # The pool's processes end by os._exit, and run nothing else before it.
            @signals.worker_process_shutdown.connect
            def end(**_):
                logging.shutdown()

            @app.task
            def work(number):
                logging.getLogger("app").info("task", extra={"number": number, "by": os.getpid()})
                with open(f"done-{number}", "x"):
                    pass
        """,
        send="""
            from tasks import work

            for number in range(60):
                work.delay(number)
        """,
    )
    with served(tmp_path, "send") as sender:
        assert sender.wait(PATIENCE) == 0, (tmp_path / "said.txt").read_text()
    command = ["celery", "-A", "tasks", "worker", "--pool", "prefork", "--concurrency", "2"]
    with served(tmp_path, *command, "--without-gossip", "--without-mingle") as worker:
        # The last task is on its way when the worker is asked to end.
        wait_for(tmp_path, worker, 60)
    assert worker.returncode == 0, (tmp_path / "said.txt").read_text()
    lines = lines_of(tmp_path / "logs")
    assert sorted(line["number"] for line in lines if line["message"] == "task") == list(range(60))
    check_writers(tmp_path / "logs", 2)


def wait_for(directory: Path, worker: subprocess.Popen[bytes], count: int) -> None:
    """Wait until that many tasks are done, or the worker has ended."""
    while len(list(directory.glob("done-*"))) < count:
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"ended with {worker.wait(0.05)}: {(directory / 'said.txt').read_text()}")
