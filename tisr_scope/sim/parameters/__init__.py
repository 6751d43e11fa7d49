"""The illumination from raw frames: carriers, phases, modulation depths, their acceptance."""
