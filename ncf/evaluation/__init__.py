"""From a scorer and a split to ranks, metrics, a comparison with baselines, a page and plots."""
