"""Super-resolution beside a running acquisition."""
