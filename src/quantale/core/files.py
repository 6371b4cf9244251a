"""The only module that writes into run directories: temporary name, fsync, rename, seal.

A folder is *sealed* when it holds a `MANIFEST.json` (size and sha256 of every file), which is
written last. Work in progress lives in a hidden staging folder beside its target, locked for
the life of the process, and becomes the target by one rename. A process killed at any moment
therefore leaves either no target or a complete one.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from quantale.core.errors import EnvironmentLackingError, ModelFileError, OutputExistsError

MANIFEST = "MANIFEST.json"
_KEY_FILE = ".key"
_LOCK_FILE = ".lock"
_RESUMABLE = ("checkpoints", "scratch")
_TRANSIENT = {_KEY_FILE, _LOCK_FILE, *_RESUMABLE}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file so that it appears complete or not at all."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _as_lacking(error, path) from error
    sync(path.parent)


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write a large file of a staging folder part by part."""
    try:
        with path.open("wb") as file:
            file.writelines(parts)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _as_lacking(error, path) from error


def append_line(path: Path, line: str) -> None:
    """Add one line to a file and sync it; a line torn by a kill before stays one of its own."""
    is_new = not path.exists()
    try:
        with path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            torn = b"\n" if _is_torn(file) else b""
            file.write(torn + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _as_lacking(error, path) from error
    if is_new:
        sync(path.parent)


def place(source: Path, target: Path) -> None:
    """Give a finished file a second name; it is copied where the file system cannot do that."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise _as_lacking(error, target) from error


def seal(folder: Path) -> str:
    """Hash and sync every file, write the manifest last, and return the manifest's sha256."""
    files = {}
    for stale in (MANIFEST, f".{MANIFEST}.tmp"):  # left by a kill while sealing
        (folder / stale).unlink(missing_ok=True)
    for path in _files_below(folder):
        path.chmod(0o644)
        files[path.relative_to(folder).as_posix()] = {
            "size": path.stat().st_size,
            "sha256": sha256_of(path),
        }
        sync(path)
    text = json.dumps({"version": 1, "files": files}, indent=1, sort_keys=True) + "\n"
    write_atomic(folder / MANIFEST, text)
    for inner in sorted({path.parent for path in _files_below(folder)}):
        sync(inner)
    return hashlib.sha256(text.encode()).hexdigest()


def is_sealed(folder: Path) -> bool:
    """Say whether a manifest is there; `verify` says whether it is true."""
    return (folder / MANIFEST).is_file()


def verify(folder: Path, *, full: bool = False) -> str:
    """Check sizes (and with `full` hashes) against the manifest; return the manifest's sha256.

    Raises ModelFileError naming the first file that is missing, added or different.
    """
    try:
        text = (folder / MANIFEST).read_bytes()
        files = json.loads(text)["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{folder}: no readable {MANIFEST}; the folder is not sealed") from (
            error
        )
    present = {p.relative_to(folder).as_posix() for p in _files_below(folder)} - {MANIFEST}
    odd = sorted(present.symmetric_difference(files))
    if odd:
        raise ModelFileError(f"{folder / odd[0]}: missing from the folder or from {MANIFEST}")
    for name, entry in files.items():
        path = folder / name
        if path.stat().st_size != entry["size"]:
            raise ModelFileError(f"{path}: {path.stat().st_size} bytes, sealed {entry['size']}")
        if full and sha256_of(path) != entry["sha256"]:
            raise ModelFileError(f"{path}: content differs from its seal; make the run again")
    return hashlib.sha256(text).hexdigest()


def sync(path: Path) -> None:
    """Write a file or the entries of a folder through to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(paths: Iterable[Path]) -> str:
    """Return one sha256 over the names and contents of some files, in their order."""
    lines = (f"{path.name} {sha256_of(path)}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@contextmanager
def staging(target: Path, *, key: str, resume: bool = False) -> Iterator[Path]:
    """Hand out a locked folder to write in; seal it and rename it to `target` at the end.

    `key` names what is being made: resuming needs the same one. After an exception the folder
    stays when it holds something to resume (`checkpoints` or `scratch`), otherwise it goes.
    Raises OutputExistsError when the target exists, is half made, or is being made.
    """
    if target.exists():
        raise OutputExistsError(f"{target}: exists already; choose another --out or remove it")
    made = [p for p in target.parents if not p.exists()]
    folder = staging_folder(target)
    fresh = not folder.exists()
    try:
        _open_staging(folder, key, resume)
    except EnvironmentLackingError:
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
            _remove_empty(made)
        raise
    lock = _lock(folder)
    try:
        yield folder
        seal(folder)
        folder.rename(target)
        sync(target.parent)
        tidy(target)
    except BaseException as error:
        if not any((folder / name).exists() for name in _RESUMABLE):
            shutil.rmtree(folder, ignore_errors=True)
            _remove_empty(made)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise _as_lacking(error, target) from error
        raise
    finally:
        os.close(lock)


def staging_folder(target: Path) -> Path:
    """Return where a folder lies while it is made."""
    return target.parent / f".{target.name}.partial"


def tidy(target: Path) -> None:
    """Remove what served the making of a sealed folder; a kill can have left it there."""
    for name in _TRANSIENT:
        _remove(target / name)


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Raise EnvironmentLackingError where safetensors cannot write, such as on a full disk."""
    try:
        yield
    except SafetensorError as error:
        raise EnvironmentLackingError(f"{path}: cannot be written: {error}") from error


@contextmanager
def sealed_folder(target: Path) -> Iterator[Path]:
    """Hand out a fresh folder; seal it and rename it to `target`, replacing what was there."""
    folder = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
        seal(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if target.exists():
        shutil.rmtree(target)
    folder.rename(target)
    sync(target.parent)


def latest_valid(parent: Path, pattern: str) -> Path | None:
    """Return the sealed, fully verified sub-folder with the highest number in its name."""
    if not parent.is_dir():
        return None
    found = sorted(parent.glob(pattern), key=_number, reverse=True)
    return next((folder for folder in found if _is_valid(folder)), None)


def _is_valid(folder: Path) -> bool:
    try:
        verify(folder, full=True)
    except ModelFileError:
        return False
    return True


def _number(folder: Path) -> int:
    digits = re.findall(r"\d+", folder.name)
    return int(digits[-1]) if digits else -1


def _is_torn(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _open_staging(folder: Path, key: str, resume: bool) -> None:
    if folder.exists():
        _check_partial(folder, key, resume)
        return
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise _as_lacking(error, folder) from error
    write_atomic(folder / _KEY_FILE, key)


def _check_partial(folder: Path, key: str, resume: bool) -> None:
    if not resume:
        raise OutputExistsError(
            f"{folder}: an interrupted or running job; continue it with --resume or remove it"
        )
    known = folder / _KEY_FILE
    if known.exists() and known.read_text() != key:
        raise OutputExistsError(f"{folder}: was started with other settings; remove it to restart")
    write_atomic(known, key)


def _lock(folder: Path) -> int:
    handle = os.open(folder / _LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_nlink == 0:
            raise BlockingIOError(errno.EAGAIN, "finished meanwhile")
    except BlockingIOError as error:
        os.close(handle)
        raise OutputExistsError(f"{folder}: another process is working here") from error
    return handle


def _files_below(folder: Path) -> list[Path]:
    """Every regular file, sorted by name, without what only serves the making of the folder."""
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return [folder / p for p in sorted(found, key=Path.as_posix) if p.parts[0] not in _TRANSIENT]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _as_lacking(error: OSError, path: Path) -> EnvironmentLackingError:
    return EnvironmentLackingError(f"{path}: cannot be written: {error.strerror or error}")
