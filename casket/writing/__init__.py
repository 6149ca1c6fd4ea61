"""Writing experiments: the API for training scripts."""
