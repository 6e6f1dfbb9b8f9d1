"""From a split and a configuration to a trained model and its run directory."""
