"""Trained networks as folders that say all that is needed to use them."""
