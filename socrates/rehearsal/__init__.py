"""The tiny model and the made-up answers."""
