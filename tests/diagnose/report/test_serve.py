"""Serving one run folder on the loopback interface: that folder and nothing else, for those who know the address."""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import pytest

from diagnose import report
from diagnose.errors import DiagnoseError
from diagnose.report import serve as server

SECRET = "s3cret"


@pytest.fixture
def folder(samples, tmp_path):
    run = tmp_path / "reports" / "unmix" / "now"
    report.write(samples.passing(), run)
    (tmp_path / "private.txt").write_text("private")
    (run / "outside").symlink_to(tmp_path / "private.txt")
    (run / "up").symlink_to(tmp_path)
    (run / "loop").symlink_to("loop")
    (run / ".hidden").write_text("private")
    return run


@contextlib.contextmanager
def served(folder, **options):
    """The address, while it is served in a thread that ends by itself when nobody asks any more."""
    said: queue.Queue = queue.Queue()
    thread = threading.Thread(target=server.serve, args=(folder, said.put), kwargs={"idle": 1.0} | options)
    thread.start()
    try:
        yield urlsplit(said.get(timeout=30))
    finally:
        thread.join(timeout=60)
        assert not thread.is_alive()


def ask(address, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    connection.request(method, path)
    answer = connection.getresponse()
    try:
        return answer.status, answer.headers.get("Content-Type", ""), answer.read()
    finally:
        connection.close()


def test_the_report_its_pictures_and_nothing_else(folder):
    with served(folder) as address:
        base = address.path.rpartition("/")[0]
        status, kind, body = ask(address, address.path)
        assert (status, kind) == (200, "text/html; charset=utf-8")
        assert body == (folder / "report.html").read_bytes()
        picture = next(folder.rglob("*.png"))
        assert ask(address, f"{base}/{picture.relative_to(folder)}")[:2] == (200, "image/png")
        assert ask(address, f"{base}/report.md")[1] == "text/plain; charset=utf-8"
        assert ask(address, address.path, "HEAD")[::2] == (200, b"")
        for path in (
            "/",
            "/report.html",
            base,
            f"{base}/",
            f"{base}/batch",
            f"{base}/batch/",
            f"{base}/../private.txt",
        ):
            assert ask(address, path)[0] == 404, path
        assert ask(address, address.path, "POST")[0] == 501
    with pytest.raises(OSError):
        ask(address, address.path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "x",
        f"/{SECRET}",
        f"/{SECRET}/",
        f"/{SECRET}/batch",
        f"/{SECRET}/outside",
        f"/{SECRET}/up/private.txt",
        f"/{SECRET}/loop",
        f"/{SECRET}/.hidden",
        f"/{SECRET}/../now/report.html",
        f"/{SECRET}/%2e%2e/now/report.html",
        f"/{SECRET}/..%2fnow%2freport.html",
        f"/{SECRET}//etc/hosts",
        f"/{SECRET}/%2fetc%2fhosts",
        f"/{SECRET}/./report.html",
        f"/{SECRET}/batch\\..\\report.html",
        f"/{SECRET}/report.html%00.png",
        f"/{SECRET}/%ff",
        f"/{SECRET}/" + "a" * 5000,
        f"/{SECRET}x/report.html",
        "/sécret/report.html",
        "//report.html",
        "http://[/x",
    ],
)
def test_no_address_leads_out(folder, path):
    assert server.inside(folder, path, SECRET) is None


@pytest.mark.parametrize(
    "path", ["report.html", "report.html?x=1#y", "batch/0-0.png", "batch%2F0-0.png", "report%2Ehtml"]
)
def test_what_is_inside_is_found(folder, path):
    assert server.inside(folder, f"/{SECRET}/{path}", SECRET).is_file()


def test_a_file_without_end_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(server, "LARGEST", 10)
    assert server.inside(folder, f"/{SECRET}/report.html", SECRET) is None


def test_the_secret_differs_each_time_and_only_loopback_is_bound(folder):
    with served(folder) as first, served(folder) as second:
        assert first.hostname == second.hostname == "127.0.0.1"
        assert first.path != second.path
        assert first.port != second.port
        assert ask(first, second.path)[0] == 404


def test_a_port_that_is_taken_is_one_line(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DiagnoseError, match=f"^--port {port}: .*leave it out for a free one$"):
            server.serve(folder, print, port)


def test_a_folder_without_a_report_is_not_served(tmp_path):
    with pytest.raises(DiagnoseError, match=r"no report\.html$"):
        server.serve(tmp_path, print)


def test_ctrl_c_ends_the_command_quietly(folder):
    display = {n: v for n, v in os.environ.items() if n not in ("DISPLAY", "WAYLAND_DISPLAY")}
    # a background job of a shell may hand down an ignored SIGINT, which Python would keep
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from diagnose.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "view", str(folder), "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=display) as process:
        try:
            address = urlsplit(process.stdout.readline().strip())
            assert ask(address, address.path)[0] == 200
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in err
