"""JSON values, read from files and the same but for rounding."""

import json

import pytest


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_close(found, expected, where="the value", within=2e-6):
    """Batches of another size change the last digits of a probability, and nothing else."""
    if isinstance(expected, dict) and isinstance(found, dict):
        assert list(found) == list(expected), where
        for key in expected:
            assert_close(found[key], expected[key], f"{where}: {key}", within)
    elif isinstance(expected, list) and isinstance(found, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_close(one, other, f"{where}[{number}]", within)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=within), where
    else:
        assert found == expected, where
