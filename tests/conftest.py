"""No test reaches for a network: what a library would look up on a hub fails at once."""

import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"
# Started in the background by a script, pytest and all below it would ignore Ctrl+C, which some tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)
