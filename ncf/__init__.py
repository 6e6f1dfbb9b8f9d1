"""Neural Collaborative Filtering: from a file of interactions to a Triton model repository."""
