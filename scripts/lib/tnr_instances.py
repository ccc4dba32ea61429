"""Reads and changes instances.json for `scripts/tnr`. Standard library of any Python 3.

    python3 tnr_instances.py instances.json show ID            its fields, one a line
    python3 tnr_instances.py instances.json list               a line an instance: ID, backend, where
    python3 tnr_instances.py instances.json create             makes a folder an instance, prints its ID
    python3 tnr_instances.py instances.json remove ID          ends what runs in it, removes folder and entry
    python3 tnr_instances.py instances.json processes FOLDER   the processes that run in it

Exit status: 0 done, 2 cannot (the file and the key are named), 3 no such instance.
"""

import contextlib
import fcntl
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
HOST = re.compile(r"[^\s-]\S*")
KEYS = ("host", "port", "identity", "options", "folder")
MARKER = ".made-by-tnr"  # only folders that hold it are ever removed
DELETED = ".deleted-"


class WrongError(Exception):
    """What is wrong and where."""


def read(path):
    """The instances by ID, each one checked."""
    try:
        instances = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=without_duplicates)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WrongError(f"cannot be read: {error}") from None
    if not isinstance(instances, dict):
        raise WrongError('must be an object: {"0": {"host": "user@1.2.3.4"}}')
    for key, entry in instances.items():
        check_entry(key, entry)
    return instances


def without_duplicates(pairs):
    """A JSON object; of two equal keys one would silently be lost."""
    for key, _ in pairs:
        if sum(other == key for other, _ in pairs) > 1:
            raise ValueError(f"the key {key!r} stands there twice")
    return dict(pairs)


def check_entry(key, entry):
    """Raise WrongError unless the entry is a host or a folder."""

    def fail(what):
        raise WrongError(f'"{key}": {what}')

    if not ID.fullmatch(key):
        fail("an ID has letters, digits, - and _ only")
    if not isinstance(entry, dict):
        fail('must be an object with "host" or "folder"')
    for name in entry:
        if name not in KEYS:
            import difflib  # here, since `show` runs with every command

            near = difflib.get_close_matches(name, KEYS, 1)
            fail(f'unknown key "{name}"' + (f', meant "{near[0]}"?' if near else f"; known: {', '.join(KEYS)}"))
    if ("host" in entry) == ("folder" in entry):
        fail('needs either "host" or "folder"')
    if "folder" in entry and len(entry) > 1:
        fail('"folder" stands alone')
    for name in ("host", "identity", "folder"):
        value = entry.get(name, "-")
        if not isinstance(value, str) or not value or not value.isprintable():
            fail(f'"{name}" must be a text, is {value!r}')
    if "host" in entry and not HOST.fullmatch(entry["host"]):
        fail(f'"host" must be as for ssh, without blanks: user@1.2.3.4; is {entry["host"]!r}')
    port = entry.get("port", 22)
    if type(port) is not int or not 0 < port < 65536:
        fail(f'"port" must be a number from 1 to 65535, is {port!r}')
    options = entry.get("options", [])
    if not isinstance(options, list) or not all(isinstance(o, str) and o and o.isprintable() for o in options):
        fail(f'"options" must be a list of texts as for ssh -o, is {options!r}')


def write(path, instances):
    """Replace the file in one step."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(instances, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


@contextlib.contextmanager
def locked(path):
    """The folder that holds the local instances, made and held against others who change instances.json."""
    folder = path.parent / "instances"
    folder.mkdir(exist_ok=True)
    descriptor = os.open(str(folder), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in folder.glob(f"{DELETED}*"):  # of an interrupted removal
            if (left / MARKER).exists():
                with contextlib.suppress(OSError):  # what cannot be removed must not be in the way of other instances
                    remove_folder(left)
        yield folder
    finally:
        os.close(descriptor)


def place_of(path, entry):
    """The folder of a local instance, with links resolved: processes are found by this name."""
    return (path.parent / entry["folder"]).resolve()


def show(path, key):
    """Print an entry's fields for bash."""
    entry = read(path).get(key)
    if entry is None:
        return 3
    if "folder" in entry:
        fields = ["local", str(place_of(path, entry))]
    else:
        identity = str(path.parent / Path(entry["identity"]).expanduser()) if "identity" in entry else ""
        fields = ["ssh", entry["host"], str(entry.get("port", "")), identity, *entry.get("options", [])]
    print("\n".join([*fields, "end"]))  # bash drops empty lines at the end
    return 0


def list_all(path):
    """Print a line an instance."""
    for key, entry in read(path).items():
        if "folder" in entry:
            print(key, "local", place_of(path, entry), sep="\t")
        else:
            print(key, "ssh", entry["host"] + (f":{entry['port']}" if "port" in entry else ""), sep="\t")
    return 0


def create(path):
    """Make the first free number an instance."""
    with locked(path) as folder:
        instances = read(path)
        number = 0
        while str(number) in instances or os.path.lexists(str(folder / str(number))):
            number += 1
        place = folder / str(number)
        (place / "home").mkdir(parents=True)
        (place / MARKER).write_text("`tnr delete` may remove this folder.\n", encoding="utf-8")
        instances[str(number)] = {"folder": f"instances/{number}"}
        write(path, instances)
    print(number)
    return 0


def remove(path, key):
    """End what runs in a local instance, remove its folder, then forget it."""
    with locked(path):
        instances = read(path)
        entry = instances.get(key)
        if entry is None or "folder" not in entry:
            return 3
        place = place_of(path, entry)
        if place.exists():
            if not (place / MARKER).is_file():
                raise WrongError(
                    f'"{key}": {place} was not made by tnr create, so it is not removed; '
                    "remove the entry (and the folder) by hand"
                )
            end_processes(place)
            gone = place.parent / f"{DELETED}{key}-{os.getpid()}"
            place.rename(gone)  # from now on it is not there, whenever we are interrupted
        else:
            end_processes(place)
            gone = None
        del instances[key]
        write(path, instances)
        if gone:
            remove_folder(gone)
    return 0


def remove_folder(folder):
    """Remove a folder, its marker last: what is interrupted can be recognised and ended later."""
    import shutil

    for inner in folder.iterdir():
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(str(inner))
        elif inner.name != MARKER:
            inner.unlink()
    shutil.rmtree(str(folder))


def processes(place):
    """The processes whose environment says that they were started in this instance."""
    wanted = os.fsencode(f"SOCRATES_INSTANCE={place}")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


def end_processes(place, patience=5.0):
    """Ask the processes to end, and end those that do not within some seconds."""
    started = time.monotonic()
    asked = set()
    while True:
        left = processes(place)
        if not left:
            return
        waited = time.monotonic() - started
        if waited > 2 * patience:
            raise WrongError(f"processes {left} in {place} cannot be ended; nothing was removed")
        for process in left:
            if waited > patience or process not in asked:
                asked.add(process)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL if waited > patience else signal.SIGTERM)
        time.sleep(0.05)


def main():
    """Do what the arguments say."""
    path, command, *rest = sys.argv[1:]
    path = Path(os.path.normpath(str(Path.cwd() / path)))
    commands = {"show": show, "list": list_all, "create": create, "remove": remove}
    try:
        if command == "processes":
            for process in processes(rest[0]):
                print(process)
            return 0
        return commands[command](path, *rest)
    except WrongError as error:
        print(f"tnr: error: {path}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"tnr: error: {error.filename or path}: {error.strerror or error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
