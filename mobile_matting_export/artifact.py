"""An artifact on disk: a folder of model files and their manifest, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobile_matting_export.errors import UsageError

SCHEMA = "mmexport.manifest/1"
MANIFEST = "manifest.json"

# what a write without a file's name fails with when its disk takes nothing more
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Artifact:
    """A folder made by ``convert``; ``manifest`` is its manifest.json."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def files(self) -> tuple[Path, ...]:
        """The model files, in the manifest's order."""
        return tuple(self.folder / entry["path"] for entry in self.manifest["files"])

    @property
    def title(self) -> str:
        """``network target-precision`` for people."""
        manifest = self.manifest
        return f"{manifest['network']['name']} {manifest['target']}-{manifest['precision']}"


def read_artifact(path: Path) -> Artifact:
    """Open an artifact by its folder, its manifest, or one of its model files; checks every sha256.

    Raises:
        UsageError: nothing there, no manifest, another schema, or files that were changed.
    """
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise UsageError(f"artifact {path} does not exist: `mmexport convert` makes one")
    manifest_path = folder / MANIFEST
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {MANIFEST}: it is not a folder made by `mmexport convert`") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{manifest_path} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise UsageError(f"{manifest_path} is no {SCHEMA} file: convert the network again with this version")
    if not _names_files(manifest):
        raise UsageError(f"{manifest_path} names no files with their sha256: convert the network again")
    artifact = Artifact(folder, manifest)
    for entry, file in zip(manifest["files"], artifact.files, strict=True):
        if not file.is_file():
            raise UsageError(f"{file} is named by the manifest but missing: convert the network again")
        if file_sha256(file) != entry["sha256"]:
            raise UsageError(f"{file} was changed after it was made (sha256 differs): convert the network again")
    return artifact


def _names_files(manifest: dict[str, Any]) -> bool:
    files = manifest.get("files")
    return (
        isinstance(files, list)
        and bool(files)
        and all(isinstance(entry, dict) and {"path", "sha256"} <= entry.keys() for entry in files)
    )


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe_files(folder: Path, files: tuple[Path, ...]) -> list[dict[str, Any]]:
    """The manifest's ``files``: path relative to ``folder``, bytes, sha256."""
    return [
        {
            "path": file.relative_to(folder).as_posix(),
            "bytes": file.stat().st_size,
            "sha256": file_sha256(file),
        }
        for file in files
    ]


def write_json(path: Path, value: Any) -> None:
    """Write JSON that is the same for the same value: ordered as given, two spaces, final newline."""
    text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """``value`` with NaN and infinities replaced by None, since JSON has no word for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def is_replaceable(folder: Path) -> bool:
    """Whether ``folder`` is absent, empty, or was made by mmexport."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and str(manifest.get("schema", "")).startswith("mmexport.")


def require_replaceable(folder: Path) -> None:
    """Refuse an output folder that holds something else.

    Raises:
        UsageError: with the way out, ``--force``.
    """
    blocking = next((place for place in folder.parents if place.exists() and not place.is_dir()), None)
    if blocking is not None:
        raise UsageError(f"cannot write {folder}: {blocking} is a file; choose another --output")
    if not is_replaceable(folder):
        raise UsageError(f"{folder} exists and was not made by mmexport: choose another --output, or add --force")


def require_writable(folder: Path) -> None:
    """Refuse, before any work is done, a place where ``folder`` cannot be made.

    Raises:
        UsageError: names the existing folder that does not take another one.
    """
    made = _missing_parents(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent).cleanup()
    except OSError as error:
        existing = made[-1].parent if made else folder.parent
        reason = "not writable" if error.errno == errno.ENOENT else error.strerror
        raise UsageError(f"cannot make {folder}: {existing} is {reason}; choose another --output") from None
    finally:
        _remove_empty(made)


def _missing_parents(folder: Path) -> list[Path]:
    """Parents of ``folder`` that do not exist yet, innermost first."""
    return [place for place in folder.parents if not place.exists()]


def _remove_empty(places: list[Path]) -> None:
    for place in places:
        with contextlib.suppress(OSError):
            place.rmdir()


@contextlib.contextmanager
def written_atomically(folder: Path) -> Iterator[Path]:
    """A private folder beside ``folder``, renamed onto it when the block ends well, else removed.

    Parents made for it go with it, unless something else is in them by then.

    Raises:
        UsageError: the place is not writable, or a disk is full. What else fails in the block passes unchanged.
    """
    made = _missing_parents(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            scratch.chmod(0o755)
            yield scratch
            _swap(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        explained = _explain(error, folder)
        if explained is None:
            raise
        raise explained from error
    finally:
        _remove_empty(made)


def _swap(scratch: Path, folder: Path) -> None:
    """Put ``scratch`` in the place of ``folder``; the old folder goes only when the new one stands."""
    if not folder.exists():
        scratch.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    try:
        old = folder.rename(aside / folder.name)
        try:
            scratch.rename(folder)
        except OSError:
            old.rename(folder)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _explain(error: OSError, folder: Path) -> UsageError | None:
    """What to tell a person, or None where the failure is another matter (a missing program, say).

    A failed write names no file: a full disk is then that of ``folder`` or that of a converter's own
    temporary files, and the sentence says how much is left on both.
    """
    reason = error.strerror or str(error)
    named = error.filename if isinstance(error.filename, (str, bytes, os.PathLike)) else None
    if named is not None and _is_at(Path(os.fsdecode(named)), folder):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return UsageError(f"cannot write {folder}: {reason}; free some space, or choose another --output")
        return UsageError(f"cannot write {folder}: {reason} ({os.fsdecode(named)}); choose another --output")
    if error.errno not in _FULL:
        return None
    if named is not None:
        return UsageError(
            f"cannot write the temporary file {os.fsdecode(named)}: {reason}; free some space there, or set TMPDIR"
        )
    scratch = tempfile.gettempdir()
    return UsageError(
        f"{reason} while making {folder}: without the unfinished files its disk has {_free(folder.parent)} left, "
        f"that of temporary files ({scratch}) {_free(Path(scratch))}; free some space, choose another --output, or set "
        "TMPDIR"
    )


def _is_at(named: Path, folder: Path) -> bool:
    place, parent = named.absolute(), folder.parent.absolute()
    return place.is_relative_to(parent) or parent.is_relative_to(place)


def _free(place: Path) -> str:
    return f"{shutil.disk_usage(place).free / 1e6:.1f} MB"
