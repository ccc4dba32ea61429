"""Fixtures of the tests of what crosses the gap."""

import pytest
from mirrors import make_project


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)
