"""The example web application under gunicorn: real requests in, one line out for each."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from children import ended_politely

pytest.importorskip("django")
pytest.importorskip("gunicorn")

APP = Path(__file__).resolve().parent.parent / "examples" / "django_app"
REQUESTS = 5000
CLIENTS = 8
TIMEOUT = 60

pytestmark = [pytest.mark.app, pytest.mark.timeout(300)]


@contextlib.contextmanager
def gunicorn(directory: Path, output: Path) -> Iterator[int]:
    """Serve the application with 4 workers and yield the port; a polite SIGTERM ends it."""
    with output.open("wb") as log, socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        # Inherited by the connections: an answer's head and body need not wait for each other's ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "--workers", "4", "--threads", "2"]
        command += ["--bind", f"fd://{listener.fileno()}", "--graceful-timeout", "20"]
        command += ["--chdir", str(APP), "wsgi:application"]
        # gunicorn puts its control socket where these say.
        homes = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR"), str(directory.parent))
        server = subprocess.Popen(
            command,
            cwd=directory.parent,
            env=os.environ | homes | {"APP_LOG_DIRECTORY": str(directory), "PYTHONDONTWRITEBYTECODE": "1"},
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # The listener is gunicorn's alone now: when that dies, clients are refused instead of waiting.
    with ended_politely(server, TIMEOUT):
        yield port


def ask(port: int, client: int) -> list[str]:
    """Send this client's share of the requests; returns the ids that were answered."""
    answered = []
    # Odd clients keep their connection, even ones open a new one each time.
    keep = client % 2 == 1
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    for number in range(REQUESTS // CLIENTS):
        request_id = f"{client}-{number}"
        headers = {"X-Request-ID": request_id, "Connection": "keep-alive" if keep else "close"}
        connection.request("GET", f"/hello/?name=n{number}", headers=headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert (response.status, answer["request_id"]) == (200, request_id)
        answered.append(request_id)
    connection.close()
    return answered


def test_every_answered_request_is_exactly_one_line_across_the_workers(tmp_path: Path) -> None:
    """Each of 5,000 answered requests is one valid line, and no file has two writers."""
    directory = tmp_path / "logs"
    output = tmp_path / "gunicorn.txt"

    with gunicorn(directory, output) as port, ThreadPoolExecutor(CLIENTS) as pool:
        answered = [one for share in pool.map(lambda client: ask(port, client), range(CLIENTS)) for one in share]

    assert len(answered) == REQUESTS
    seen: Counter[str] = Counter()
    writers: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
    for path in directory.glob("*.jsonl"):
        content = path.read_bytes()
        assert content.endswith(b"\n"), path
        for line in content.splitlines():
            event = json.loads(line)
            if "request_id" in event:
                seen[event["request_id"]] += 1
                writers[path.name].add((event["session"], event["process"]))
    assert seen == Counter(answered), output.read_text(errors="replace")
    assert {len(pairs) for pairs in writers.values()} == {1}
    # A worker has a session of its own: as many sessions as processes, and more than one of each.
    pairs = set().union(*writers.values())
    assert len(pairs) == len({session for session, _ in pairs}) == len({process for _, process in pairs}) > 1
