"""The exact sliding window, live and offline."""
