#!/usr/bin/env python3
"""Decide by the guide's nine success criteria whether the infrastructure test (phase 2) passed.

  ./scripts/verify_test_run.sh 0

Prints the guide's checklist with the evidence under each line, and records the verdict in
evaluation_results/socrates-qwen-test-run/verification.json. Asks the machine, so run it before `tnr delete`; every
checkpoint is read in full, there and here. What cannot be judged is "not measured" and never ticked.
Exit status: 0 PASS, 1 FAIL, 2 NOT DECIDED: not measured, still running, or not reachable (an older record stays then).
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

import os
import sys
import time
from dataclasses import asdict

from socrates.errors import make_parser, run_entry_point


def main() -> int:
    """Parse, gather, judge, record, print."""
    parser = make_parser(__doc__, "verify_test_run.sh")
    parser.add_argument("instance", nargs="?", default="0", metavar="ID", help="as in `tnr status` (0)")
    parser.add_argument(
        "--config", default="config_test_run.json", metavar="FILE", help="the test's run config (config_test_run.json)"
    )
    arguments = parser.parse_args()
    from socrates.config import load_config
    from socrates.files import write_json
    from socrates.phases import RESULTS, VERIFICATION
    from socrates.remote.instance import Instance, check_instance_id, project_root
    from socrates.remote.verify import EXIT, check_criteria, checklist, gather_evidence, verdict

    root = project_root()
    os.chdir(root)
    instance = Instance(root, check_instance_id(arguments.instance))
    evidence = gather_evidence(instance, arguments.config, load_config(arguments.config), time.time())
    criteria = check_criteria(evidence)
    about = {"run": evidence.run, "instance": arguments.instance, "config": arguments.config}
    found = {"verdict": verdict(criteria), "criteria": [asdict(criterion) for criterion in criteria], **about}
    path = root / RESULTS / evidence.run / VERIFICATION
    write_json(path, found | {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
    print(f"Infrastructure test: run {evidence.run} on instance {arguments.instance}\n")
    print(checklist(criteria))
    print(f"Recorded in {path.relative_to(root)}", file=sys.stderr)
    return EXIT[found["verdict"]]


if __name__ == "__main__":
    run_entry_point(main)
