#!/usr/bin/env python3
r"""Several machines in one run: is each one ready, and the ranks on all of them. Called on the first machine.

  python scripts/hosts.py check --hostfile hosts --config config_full_dataset.json --deepspeed deepspeed_config.json
  python scripts/supervise.py start --hostfile hosts …     # checks, then trains

The hostfile is DeepSpeed's, a line for each machine: NAME slots=GPUS. Their sum is the config's num_processes, and
price_per_hour is that of all together. What the machines need:
- The first line is the machine that the run is started on, by an address of its own that the others reach. From it
  `ssh NAME true` must work for each of the others, without a question; no other program is needed. Their ports must
  be open to each other (a private network). Ranks use the network of the first line's address; NCCL_SOCKET_IFNAME and
  GLOO_SOCKET_IFNAME in machine.env say otherwise.
- They share no disk, or all do. Code, configs, venv/, data and a model's folder lie on each, under the same path below
  the home folder. check says for each machine what is missing or differs, with a command that sends it. Each machine
  tokenizes for itself; a model of the hub is downloaded by each, and HF_TOKEN goes there over standard input.
- NCCL_*, HF_* and the like from the first machine hold for all; a machine's own machine.env has the last word.

Checkpoints come together on the first machine, complete before their manifest is written: the monitor looks only
there. The others keep no part of them, and a copy of the one that they last went on from, in OUTPUT/.resumed/. When
the ranks of one machine end, a machine or a connection is lost, or the run is stopped, the ranks on all of them end;
the supervisor starts the run again from its newest checkpoint, as on one machine. In the log, lines of the other
machines begin with their [NAME].

The other actions (facts, lead, follow) are what the machines call on each other.
Exit status of check: 0 all are ready, 2 not, or it cannot be told.
"""

import _bootstrap  # noqa: F401

import argparse
import json
import os
from pathlib import Path

from socrates.errors import run_entry_point


def main() -> int:
    """Parse the arguments and do one of the four."""
    arguments = parse_arguments()
    return {"check": check, "facts": facts, "lead": lead, "follow": follow}[arguments.action](arguments)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="ask every machine whether it is ready", allow_abbrev=False)
    check.add_argument("--hostfile", required=True, metavar="FILE", help="lines NAME slots=GPUS")
    facts = actions.add_parser("facts", help="what this machine has, as JSON", allow_abbrev=False)
    for action in (check, facts):
        action.add_argument("--config", required=True, metavar="FILE", help="the run config (JSON)")
        action.add_argument("--deepspeed", required=True, metavar="FILE", help="the DeepSpeed config (JSON)")
    lead = actions.add_parser("lead", help="run the ranks of all machines", allow_abbrev=False)
    lead.add_argument("--hostfile", required=True, metavar="FILE", help="lines NAME slots=GPUS")
    lead.add_argument("--port", required=True, type=int, help="where rank 0 is met")
    lead.add_argument("--grace", type=float, default=30, metavar="SECONDS", help="for ranks to save in (30)")
    lead.add_argument("command", nargs=argparse.REMAINDER, help="the script and its arguments")
    actions.add_parser("follow", help="run this machine's ranks as the first one tells", allow_abbrev=False)
    return parser.parse_args()


def check(arguments: argparse.Namespace) -> int:
    """Ask and compare."""
    from socrates.config import load_config
    from socrates.machine.host_checks import check_hosts
    from socrates.machine.hosts import meeting_address, read_hostfile
    from socrates.machine.machine_env import MACHINE_ENV, read_machine_env

    os.environ.update(read_machine_env(MACHINE_ENV))
    config = load_config(arguments.config)
    hosts = read_hostfile(arguments.hostfile, config)
    meeting = meeting_address(arguments.hostfile, hosts)
    notes = check_hosts(hosts, config, [arguments.config, arguments.deepspeed], os.environ, Path.cwd())
    print(*notes, f"All hosts ({len(hosts)}) are ready; they meet at {meeting}", sep="\n")
    return 0


def facts(arguments: argparse.Namespace) -> int:
    """Answer another machine."""
    from socrates.config import load_config
    from socrates.machine.host_checks import MARK, find_facts
    from socrates.machine.machine_env import MACHINE_ENV, read_machine_env

    os.environ.update(read_machine_env(MACHINE_ENV))
    found = find_facts(load_config(arguments.config), [arguments.config, arguments.deepspeed], Path.cwd())
    print(MARK + json.dumps(found))
    return 0


def lead(arguments: argparse.Namespace) -> int:
    """Run all ranks."""
    from socrates.machine import host_ranks
    from socrates.machine.hosts import meeting_address, read_hostfile

    hosts = read_hostfile(arguments.hostfile)
    meeting = meeting_address(arguments.hostfile, hosts)
    return host_ranks.lead(hosts, meeting, arguments.port, arguments.grace, arguments.command)


def follow(arguments: argparse.Namespace) -> int:
    """Run this machine's ranks."""
    from socrates.machine import host_ranks

    return host_ranks.follow()


if __name__ == "__main__":
    run_entry_point(main)
