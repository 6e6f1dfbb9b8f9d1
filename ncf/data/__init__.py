"""From files and frames to a `Split`: ids, interactions, hold-outs, prepared folders, columns of items."""
