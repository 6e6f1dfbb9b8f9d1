"""Process 1: it starts, watches and stops the other processes."""
