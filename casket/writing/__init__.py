"""Writing experiments: what a training script calls."""
