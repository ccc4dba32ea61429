"""No test reaches for a network: what a library would look up on a hub fails at once."""

import os
import signal

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
# Started in the background or by nohup, pytest and all below it would ignore these, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_sessionstart(session):
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")  # pytest-xdist's workers have none
    if terminal:
        session.config.pluginmanager.register(NameFailures(terminal))


class NameFailures:
    """Names what fails when it fails, with the end of its error: in the middle of a log `F` names nothing."""

    def __init__(self, terminal):
        self.terminal = terminal

    @pytest.hookimpl(trylast=True)  # after its F
    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.terminal.line(f"\n{'FAILED' if report.when == 'call' else 'ERROR'} {report.nodeid}", red=True)
            for line in report.longreprtext.splitlines()[-15:]:
                self.terminal.line(line)

    pytest_collectreport = pytest_runtest_logreport


def pytest_terminal_summary(terminalreporter):
    """Tables that tests record (`record_property("table", ...)`), also from pytest-xdist's workers."""
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        for name, text in report.user_properties:
            if name == "table" and report.when == "call":
                terminalreporter.section(report.nodeid.rpartition("::")[2].replace("_", " "))
                terminalreporter.line(text)
