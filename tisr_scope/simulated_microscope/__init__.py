"""A SIM microscope made of Python devices behind a Micro-Manager configuration."""
