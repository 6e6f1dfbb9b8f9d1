"""Bodies to documents and answers to bodies: JSON, JSON Lines, CSV, NPY, and checks of KServe-v2."""
