"""Fixtures of the tests of what crosses the gap."""

import subprocess

import pytest
from mirrors import make_project


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


@pytest.fixture
def small_disk(project):
    """A project whose models are on a disk of 1 MiB."""
    project.models.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", project.models], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    yield project
    subprocess.run(["umount", "-l", project.models], check=True)
