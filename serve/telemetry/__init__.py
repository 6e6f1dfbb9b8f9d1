"""What is counted and logged, and in which form others read it."""
