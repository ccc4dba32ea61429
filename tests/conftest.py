"""No test reaches for a network: what a library would look up on a hub fails at once."""

import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"
# Started in the background or by nohup, pytest and all below it would ignore these, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_terminal_summary(terminalreporter):
    """Tables that tests record (`record_property("table", ...)`), also from pytest-xdist's workers."""
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        for name, text in report.user_properties:
            if name == "table" and report.when == "call":
                terminalreporter.section(report.nodeid.rpartition("::")[2].replace("_", " "))
                terminalreporter.line(text)
