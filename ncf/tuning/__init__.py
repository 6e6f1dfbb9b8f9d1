"""From a split to the settings that rank the items for the choice of the epoch best: `ncf tune`."""
