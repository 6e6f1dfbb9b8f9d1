"""AWS's limits, each with the page that states it, checked before AWS is asked."""
