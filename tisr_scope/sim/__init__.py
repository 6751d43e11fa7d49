"""Structured illumination: patterns, parameter estimation, reconstruction, wide field."""
