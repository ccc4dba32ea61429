"""How a run stands, on one screen."""
