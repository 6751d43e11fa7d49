"""Losses and the visible training loop."""
