"""Structured illumination: optics, parameters, reconstruction, report."""
