"""On the training machine: a training that runs in its background, watched over and sampled."""
