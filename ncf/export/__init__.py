"""From a run directory to a version in a Triton model repository."""
