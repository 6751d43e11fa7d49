"""The whole chain on the simulated microscope."""
