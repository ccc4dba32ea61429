"""Programs that stay on the GPU machine."""
