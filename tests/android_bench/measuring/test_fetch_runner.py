"""Runners from a server of our own: fetched once, resumed, and never taken when their bytes are others."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from android_bench.errors import RequestError
from android_bench.fetch_runner import PUBLISHED, FetchFailed, Published, fetch_runner, partial_file
from android_bench.find_program import find_program, read_checksums

LITERT = b"\x7fELF benchmark_litert_model.h " + bytes(range(256)) * 800
PATH = "/binaries/9.9/android_arm64/benchmark_model"


class Server(ThreadingHTTPServer):
    content = LITERT
    cut_after: int | None = None
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        if self.path != PATH:
            self.send_error(404)
            return
        body, status = self.server.content, 200
        asked = self.headers.get("Range")
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_error(416)
                return
            body, status = body[start:], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.server.cut_after is None else body[: self.server.cut_after])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def published(server: Server) -> Published:
    base = f"http://127.0.0.1:{server.server_address[1]}/binaries"
    return Published("litert", "benchmark_model", base, "{version}/android_arm64/benchmark_model", "9.9")


def test_a_runner_is_fetched_once_and_is_executable(server: Server, published: Published, tmp_path: Path) -> None:
    path, sha256 = fetch_runner(published, tmp_path)
    assert path == tmp_path / "litert" / "benchmark_model" and path.read_bytes() == LITERT
    assert sha256 == hashlib.sha256(LITERT).hexdigest() and path.stat().st_mode & 0o111
    assert fetch_runner(published, tmp_path) == (path, sha256) and len(server.asked) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["benchmark_model"]


def test_a_broken_download_goes_on_where_it_ended(server: Server, published: Published, tmp_path: Path) -> None:
    server.cut_after = 5000
    with pytest.raises(FetchFailed, match="run it again"):
        fetch_runner(published, tmp_path)
    assert not (tmp_path / "litert" / "benchmark_model").exists()
    server.cut_after = None
    path, _ = fetch_runner(published, tmp_path)
    assert path.read_bytes() == LITERT and server.asked == [None, "bytes=5000-"]


def test_a_server_without_ranges_sends_it_anew(server: Server, published: Published, tmp_path: Path) -> None:
    server.cut_after = 5000
    with pytest.raises(FetchFailed):
        fetch_runner(published, tmp_path)
    server.cut_after, server.ranges = None, False
    assert fetch_runner(published, tmp_path)[0].read_bytes() == LITERT


def test_all_bytes_of_a_broken_download_may_have_come(server: Server, published: Published, tmp_path: Path) -> None:
    address = f"{published.base}/9.9/android_arm64/benchmark_model"
    part = partial_file(tmp_path / "litert" / "benchmark_model", address)
    part.parent.mkdir()
    part.write_bytes(LITERT)
    assert fetch_runner(published, tmp_path)[0].read_bytes() == LITERT


def test_another_address_does_not_go_on_with_a_broken_download(
    server: Server, published: Published, tmp_path: Path
) -> None:
    mirror = dataclasses.replace(published, base=published.base.replace("127.0.0.1", "localhost"))
    server.cut_after = 5000
    with pytest.raises(FetchFailed):
        fetch_runner(mirror, tmp_path)
    server.cut_after = None
    assert fetch_runner(published, tmp_path)[0].read_bytes() == LITERT
    assert server.asked == [None, None]


def test_other_bytes_under_the_same_address_are_refused(server: Server, published: Published, tmp_path: Path) -> None:
    path, _ = fetch_runner(published, tmp_path)
    path.unlink()
    server.content = LITERT + b"more"
    with pytest.raises(FetchFailed, match="not the file that was first fetched"):
        fetch_runner(published, tmp_path)
    assert not list((tmp_path / "litert").iterdir())


def test_a_file_changed_on_disk_is_never_used(server: Server, published: Published, tmp_path: Path) -> None:
    path, _ = fetch_runner(published, tmp_path)
    assert find_program("tflite", None, None, tmp_path, {}).path == path
    path.write_bytes(LITERT[:-1] + b"!")
    with pytest.raises(RequestError, match="not the file that was fetched"):
        find_program("tflite", None, None, tmp_path, {})
    assert fetch_runner(published, tmp_path)[0].read_bytes() == LITERT, "fetching again mends it"


@pytest.mark.parametrize("base", ["http://127.0.0.1:9", "nothing://x"])
def test_no_server_is_an_error_for_people(base: str, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="cannot be fetched"):
        fetch_runner(Published("litert", "benchmark_model", base, "{version}/x", "1"), tmp_path)


def test_an_unknown_version_is_named(server: Server, published: Published, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="404"):
        fetch_runner(Published("litert", "benchmark_model", published.base, "{version}/no", "0.1"), tmp_path)


def test_damaged_checksums_are_no_checksums(tmp_path: Path) -> None:
    (tmp_path / "checksums.json").write_text("{")
    with pytest.raises(RequestError, match="remove it"):
        read_checksums(tmp_path)


def test_versions_are_pinned() -> None:
    assert all(entry.version not in ("latest", "nightly") and "{version}" in entry.path for entry in PUBLISHED)


def test_the_file_tells_which_benchmark_model_it_is(tmp_path: Path) -> None:
    path = tmp_path / "benchmark_model"
    path.write_bytes(LITERT)
    assert find_program("tflite", path).runner.name == "litert"
    path.write_bytes(b"\x7fELF benchmark_tflite_model")
    assert find_program("tflite", path).runner.name == "tflite"
    assert find_program("tflite", path, "litert").runner.name == "litert"
    assert find_program("tflite", tmp_path).runner.name == "tflite"


def test_places_are_searched_in_order(tmp_path: Path) -> None:
    fetched, environment = tmp_path / "fetched", {"MMEXPORT_RUNNERS": str(tmp_path / "mine")}
    with pytest.raises(RequestError, match=r"in .*mine and .*fetched: .*NDK"):
        find_program("ncnn", None, None, fetched, environment)
    with pytest.raises(RequestError, match="no runner for ncnn files: no release"):
        find_program("ncnn", None, None, None, {})
    for folder in ("fetched/ncnn", "mine"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "benchncnn").write_text("")
    assert find_program("ncnn", None, None, fetched, environment).path == tmp_path / "mine" / "benchncnn"
    assert find_program("ncnn", None, None, fetched, {}).path == fetched / "ncnn" / "benchncnn"
    with pytest.raises(RequestError, match="no such file"):
        find_program("ncnn", tmp_path / "gone")
