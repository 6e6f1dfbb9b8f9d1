"""Models that score: GMF, MLP, NeuMF, closed forms, blends and fold-in, in pure torch without files."""
