"""No test reaches for a network: what a library would look up on a hub fails at once."""

import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"
if os.environ.get("ATEN_CPU_CAPABILITY") == "default":  # else oneDNN takes AMX, whose packing torch then refuses
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "SSE41")
# Started in the background or by nohup, pytest and all below it would ignore these, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
