"""No test reaches for a network: what a library would look up on a hub fails at once."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
