"""The former place of the simulated microscope, for configurations that still name it."""
