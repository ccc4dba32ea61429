"""On the training machine: whether it can carry a run, and a training that runs in its background, watched over."""
