"""Fine-tune a language model on human survey experiments, and know whether it worked; README.md names the rooms."""
