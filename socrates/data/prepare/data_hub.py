"""A data set of the Hugging Face hub at one commit, through the local cache: its data and split files, nothing else.

One request says which commit a revision means now and which files it has; all that follows is about that commit. The
hub's client keeps complete files, so that a download that was ended goes on with the first that is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from socrates.data.prepare.sources import PUBLISHED, Source, open_folder
from socrates.errors import SocratesError, first_line
from socrates.model.hub import CONTINUE, TIMEOUT_S, ctrl_c_ends_at_once, names_a_folder, refusals_told

_LISTS = "_mapping.json"
_ENDINGS = (".parquet", ".jsonl")  # the first that there is: the other is the same rows again
_UNREACHABLE = "cannot reach the hub (no network, or HF_HUB_OFFLINE is set)"
_NUMBERED = re.compile(r"-(\d+)-of-(\d+)\.(?:parquet|jsonl)\Z")


class _Listing(NamedTuple):
    """What the hub says a revision is now."""

    commit: str
    files: list[str]


def open_source(name: str = PUBLISHED, revision: str | None = None, commit: str | None = None) -> Source:
    """The data set that a name means: a folder or file of this machine, or a data set of the hub, downloaded first.

    Args:
        name: a folder, a file, or a hub name such as `socratesft/SocSci210` (the rule is `hub.names_a_folder`'s).
        revision: branch, tag or commit of the hub's repository; the default branch's newest commit if None.
        commit: that the revision meant at an earlier time, and is to mean now.

    Raises:
        SocratesError: nothing there, or the hub cannot be reached, does not know it or does not let us read it.
    """
    if not name:
        raise SocratesError("--source: the name of the data set is empty")
    if names_a_folder(name):
        if revision is not None:
            raise SocratesError(f"{name}: a local folder has no revisions; leave {revision!r} out")
        return open_folder(name)
    listing = _look_up(name, commit or revision)
    folder = _download(name, commit or revision, listing) if listing else _find_in_cache(name, commit or revision)
    found = open_folder(folder)
    if missing := _missing(found.files):
        raise SocratesError(
            f"{name}: the local cache holds only a part of commit {folder.name} ({missing} is missing); run again "
            "where the hub can be reached"
        )
    return Source(name, found.folder, found.files, folder.name, revision)


def _look_up(name: str, revision: str | None) -> _Listing | None:
    """What a revision means now; None where the hub cannot be reached."""
    from huggingface_hub import HfApi, errors

    try:
        with refusals_told("data set", name, revision):
            info = HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT_S)
    except (errors.HTTPError, errors.OfflineModeIsEnabled):
        return None
    return _Listing(info.sha, [file.rfilename for file in info.siblings])


def _download(name: str, revision: str | None, listing: _Listing) -> Path:
    """The cache's folder of a commit, once all that we need of it is there."""
    from huggingface_hub import HfApi, errors, snapshot_download

    wanted = _wanted(listing.files)
    if not any(file.endswith(_ENDINGS) for file in wanted):
        raise SocratesError(f"{name}: the data set at commit {listing.commit} has no .parquet and no .jsonl file")
    try:
        with suppress(errors.RevisionResolutionError):  # notes what the revision means, for a time without the hub
            HfApi().resolve_revision(name, repo_type="dataset", revision=revision)
        with ctrl_c_ends_at_once():
            folder = snapshot_download(name, repo_type="dataset", revision=listing.commit, allow_patterns=wanted)
    except (errors.HTTPError, OSError, RuntimeError) as error:  # RuntimeError: the hub's other way of transfer (xet)
        raise SocratesError(f"{name}: the download stopped: {first_line(error)}; {CONTINUE}") from error
    if missing := [file for file in wanted if not (Path(folder) / file).is_file()]:
        raise SocratesError(f"{name}: the download left out {missing[0]}; {CONTINUE}")
    return Path(folder)


def _find_in_cache(name: str, revision: str | None) -> Path:
    """The cache's folder of what a revision meant when the hub was reached last."""
    from huggingface_hub import errors, get_cached_repo_tree, snapshot_download

    wanted = ["*"]  # where another program filled the cache, it does not say what there should be
    with suppress(errors.CachedRepoTreeNotFoundError):
        wanted = _wanted(file.path for file in get_cached_repo_tree(name, repo_type="dataset", revision=revision))
    try:
        return Path(
            snapshot_download(
                name, repo_type="dataset", revision=revision, allow_patterns=wanted, local_files_only=True
            )
        )
    except errors.IncompleteSnapshotError as error:
        missing = [file for file in wanted if not (Path(error.snapshot_path) / file).is_file()]
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SocratesError(
            f"{name}: the local cache holds only a part of it ({missing[0]} is missing{more}), and {_UNREACHABLE}; "
            "connect and run again"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        at = f" at revision {revision}" if revision else ""
        raise SocratesError(
            f"{name}: no folder here, and {_UNREACHABLE}, and the data set{at} is not in the local cache; connect and "
            "run again, or name a local folder with --source"
        ) from error


def _wanted(files: Iterable[str]) -> list[str]:
    """The data files, of one kind, and the split files among those of a repository."""
    files = list(files)
    kind = next((ending for ending in _ENDINGS if any(file.endswith(ending) for file in files)), _ENDINGS[0])
    return [file for file in files if file.endswith((kind, _LISTS))]


def _missing(files: tuple[Path, ...]) -> str:
    """A file that the names of the others promise ("train-00001-of-00012.parquet"), if one is not there."""
    names = {file.name for file in files}
    for name in sorted(names):
        if match := _NUMBERED.search(name):
            width, total = len(match[1]), int(match[2])
            for i in range(total):
                other = f"{name[: match.start()]}-{i:0{width}}{name[match.end(1) :]}"
                if other not in names:
                    return other
    return ""
