"""Earlier results come back byte for byte, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.result_cache import ResultCache, open_cache, usual_folder


@pytest.fixture
def cache(tmp_path: Path) -> ResultCache:
    return ResultCache(tmp_path / "cache")


def keep(cache: ResultCache, key: str, content: bytes, name: str = "a.bin") -> None:
    file = cache.folder.parent / "made"
    file.write_bytes(content)
    cache.keep(key, {name: file})


def fetch(cache: ResultCache, key: str, into: Path) -> bytes | None:
    into.mkdir(exist_ok=True)
    files = cache.fetch(key, into)
    return None if files is None else b"".join(file.read_bytes() for file in files)


def test_what_was_kept_comes_back_under_its_names_in_order(cache: ResultCache, tmp_path: Path) -> None:
    files = {"z.param": tmp_path / "one", "a.bin": tmp_path / "two"}
    for number, file in enumerate(files.values()):
        file.write_bytes(bytes([number]) * 100)
    assert cache.fetch("key", tmp_path) is None
    cache.keep("key", files)

    into = tmp_path / "into"
    into.mkdir()
    found = cache.fetch("key", into)
    assert found == (into / "z.param", into / "a.bin")
    assert [file.read_bytes() for file in found] == [file.read_bytes() for file in files.values()]
    assert cache.fetch("other", into) is None


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "list cut", "list gone", "list is no list", "a file"])
def test_a_damaged_entry_is_dropped_and_can_be_made_again(cache: ResultCache, tmp_path: Path, damage: str) -> None:
    keep(cache, "key", b"x" * 100)
    entry = cache.folder / "key"
    file, listed = entry / "a.bin", entry / "entry.json"
    if damage == "changed":
        file.write_bytes(b"x" * 99 + b"y")
    elif damage == "cut":
        file.write_bytes(b"x" * 50)
    elif damage == "gone":
        file.unlink()
    elif damage == "list cut":
        listed.write_text(listed.read_text()[:10])
    elif damage == "list gone":
        listed.unlink()
    elif damage == "list is no list":
        listed.write_text("7")
    else:
        file.unlink()
        listed.unlink()
        entry.rmdir()
        entry.write_bytes(b"no folder")

    assert fetch(cache, "key", tmp_path / "into") is None
    assert not list((tmp_path / "into").iterdir())
    assert not list(cache.folder.iterdir())
    keep(cache, "key", b"again")
    assert fetch(cache, "key", tmp_path / "into") == b"again"


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache", max_bytes=2600)
    for number, key in enumerate(("first", "second")):
        keep(cache, key, b"x" * 1000)
        os.utime(cache.folder / key, (number, number))
    assert fetch(cache, "first", tmp_path / "into") is not None  # used now
    keep(cache, "third", b"x" * 1000)
    assert sorted(entry.name for entry in cache.folder.iterdir()) == ["first", "third"]


def test_what_is_no_entry_stays(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache", max_bytes=1500)
    runner = cache.folder / "runners" / "litert" / "benchmark_model"
    runner.parent.mkdir(parents=True)
    runner.write_bytes(b"x" * 5000)
    for folder in (runner.parent.parent, runner.parent):
        os.utime(folder, (1, 1))
    keep(cache, "first", b"x" * 1000)
    os.utime(cache.folder / "first", (2, 2))
    keep(cache, "second", b"x" * 1000)
    assert sorted(entry.name for entry in cache.folder.iterdir()) == ["runners", "second"]
    assert runner.is_file()


def test_what_a_killed_process_left_goes_after_a_day(cache: ResultCache) -> None:
    old, new = cache.folder / ".old", cache.folder / ".new"
    old.mkdir(parents=True)
    new.mkdir()
    long_ago = time.time() - 25 * 3600
    os.utime(old, (long_ago, long_ago))
    keep(cache, "key", b"x")
    assert sorted(entry.name for entry in cache.folder.iterdir()) == [".new", "key"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    cache = ResultCache(file / "cache")
    keep(ResultCache(tmp_path / "x"), "key", b"x")
    cache.keep("key", {"a.bin": tmp_path / "made"})
    assert cache.fetch("key", tmp_path) is None


def test_two_processes_that_keep_and_fetch_never_see_half_an_entry(tmp_path: Path) -> None:
    code = f"""
import pathlib, random, sys
from mobile_matting_export.result_cache import ResultCache
cache = ResultCache(pathlib.Path({str(tmp_path / "cache")!r}), max_bytes=30_000)
own = pathlib.Path(sys.argv[1]); own.mkdir()
draw = random.Random(sys.argv[1])
hits = 0
for _ in range(300):
    number = draw.randrange(6)
    found = cache.fetch(str(number), own)
    if found is None:
        (own / "made").write_bytes(bytes([number]) * 8000)
        cache.keep(str(number), {{"f": own / "made"}})
    else:
        hits += 1
        assert found[0].read_bytes() == bytes([number]) * 8000
print(hits)
"""
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    hits = [int(child.communicate()[0]) for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert min(hits) > 0
    assert not [entry for entry in (tmp_path / "cache").iterdir() if entry.name.startswith(".")]


def test_the_choice_is_a_folder_off_or_the_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_cache("off") is None
    assert open_cache(str(tmp_path)) == ResultCache(tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert open_cache(None) == ResultCache(tmp_path / "mmexport")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert usual_folder() == tmp_path / ".cache" / "mmexport"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert usual_folder() == tmp_path / "Library" / "Caches" / "mmexport"

    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(UsageError, match=r"is a file.*--cache off"):
        open_cache(str(file))
