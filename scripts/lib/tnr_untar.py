"""Unpacks the tar stream that a machine sends, on standard input: regular files and folders only.

    python3 tnr_untar.py FOLDER/      into the folder
    python3 tnr_untar.py FILE         the one file, under this name

Each file is written beside its place and renamed. Links are passed over, and no name leads out of the folder.
Standard library of any Python 3; `scripts/tnr` calls it.
Exit status: 0 done, 1 not all of it could be written or the stream was cut off, 130 interrupted.
"""

import os
import shutil
import sys
import tarfile
from pathlib import Path


def safe_parts(name):
    """The parts of a member's name below the folder; None if it would lead out of it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if name.startswith("/") or ".." in parts else parts


def write_file(source, place, mtime):
    """Write a file whole or not at all."""
    unfinished = place.parent / f".{place.name[:60]}.{os.getpid()}.tmp"
    try:
        with unfinished.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        os.utime(str(unfinished), (mtime, mtime))
        unfinished.replace(place)
    except BaseException:
        if unfinished.exists():
            unfinished.unlink()
        raise


def unpack(stream, target):
    """Unpack; gives the names that are passed over."""
    is_folder, target = target.endswith("/"), Path(target)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            parts = safe_parts(member.name)
            place = target.joinpath(*parts) if is_folder and parts is not None else target
            if parts is None or not (member.isreg() or member.isdir()) or (not is_folder and not member.isreg()):
                yield member.name
            elif member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                write_file(archive.extractfile(member), place, member.mtime)


def main():
    """Unpack standard input."""
    try:
        for name in unpack(sys.stdin.buffer, sys.argv[1]):
            print(f"tnr: passed over {name!r}: no regular file or folder", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    except (OSError, tarfile.TarError, ValueError, OverflowError) as error:  # the latter two: no possible name or time
        print(f"tnr: {sys.argv[1]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
