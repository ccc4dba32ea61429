"""Fine-tune a language model on human survey experiments, and know whether it worked.

The modules are listed in the README in the order in which data flows through them; each imports only from those
above it. Nothing here imports torch or transformers before a function needs them.
"""
