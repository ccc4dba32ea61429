"""Reads and changes instances.json for `scripts/tnr`. Standard library of any Python 3.

    python3 tnr_instances.py instances.json show ID            its fields, one a line
    python3 tnr_instances.py instances.json list               a line an instance: ID, backend, where
    python3 tnr_instances.py instances.json create             makes a folder an instance, prints its ID
    python3 tnr_instances.py instances.json remove ID          ends what runs in it, removes folder and entry

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
MARKER = ".made-by-tnr"  # only folders that hold it are ever removed
PATIENCE = 5.0  # seconds that processes get to end


def is_text(value):
    """Whether a value is a text that can stand in a command line."""
    return isinstance(value, str) and value != "" and value.isprintable()


KEYS = {
    "host": (lambda value: is_text(value) and re.fullmatch(r"[^\s-]\S*", value), "as for ssh: user@1.2.3.4"),
    "port": (lambda value: type(value) is int and 0 < value < 65536, "a number from 1 to 65535"),
    "identity": (is_text, "a text"),
    "options": (lambda value: isinstance(value, list) and all(map(is_text, value)), "a list of texts as for ssh -o"),
    "folder": (is_text, "a text"),
}


class WrongError(Exception):
    """What is wrong and where."""


def read(path):
    """The instances by ID, each one checked."""
    try:
        instances = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=without_duplicates)
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
    if not ID.fullmatch(key):
        raise WrongError(f'"{key}": an ID has letters, digits, - and _ only')
    if not isinstance(entry, dict):
        raise WrongError(f'"{key}": must be an object with "host" or "folder"')
    for name, value in entry.items():
        if name not in KEYS:
            raise WrongError(f'"{key}": unknown key "{name}", known: {", ".join(KEYS)}')
        is_good, what = KEYS[name]
        if not is_good(value):
            raise WrongError(f'"{key}": "{name}" must be {what}, is {value!r}')
    if ("host" in entry) == ("folder" in entry):
        raise WrongError(f'"{key}": needs either "host" or "folder"')


def write(path, instances):
    """Replace the file in one step."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(instances, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


@contextlib.contextmanager
def locked(path):
    """The folder that holds the local instances, made and held against others who change instances.json."""
    folder = path.parent / "instances"
    folder.mkdir(exist_ok=True)
    descriptor = os.open(str(folder), os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise WrongError(f"the disk of {folder} locks no files ({error.strerror}); put it on another one") from None
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
        write(path, {**instances, str(number): {"folder": f"instances/{number}"}})
    print(number)
    return 0


def remove(path, key):
    """End what runs in a local instance, remove its folder, then forget it; interrupted, it can be done again."""
    import subprocess  # here, since `show` runs with every command

    with locked(path):
        instances = read(path)
        entry = instances.pop(key, {})
        if "folder" not in entry:
            return 3
        place = place_of(path, entry)
        if place.exists() and not (place / MARKER).is_file():
            raise WrongError(f'"{key}": {place} was not made by tnr create; remove entry and folder by hand')
        end_processes(place)
        for folder in (place / "home", place):  # the marker last: it names the rest as ours until then
            if subprocess.call(["rm", "-rf", "--", str(folder)]):  # shutil's way ends in a RecursionError
                raise WrongError(f'"{key}": {folder} could not be removed; run the same command again')
        write(path, instances)
    return 0


def processes(place):
    """The processes whose environment says that they were started in this instance."""
    wanted = os.fsencode(f"SOCRATES_INSTANCE={place}")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)


def end_processes(place):
    """Ask the processes to end, and end those that do not within some seconds."""
    started = time.monotonic()
    while left := list(processes(place)):
        waited = time.monotonic() - started
        if waited > 2 * PATIENCE:
            raise WrongError(f"processes {left} in {place} cannot be ended; nothing was removed")
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL if waited > PATIENCE else signal.SIGTERM)
        time.sleep(0.1)


def main():
    """Do what the arguments say."""
    path, command, *rest = sys.argv[1:]
    path = Path(os.path.normpath(str(Path.cwd() / path)))
    commands = {"show": show, "list": list_all, "create": create, "remove": remove}
    try:
        return commands[command](path, *rest)
    except WrongError as error:
        print(f"tnr: error: {path}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"tnr: error: {error.filename or path}: {error.strerror or error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
