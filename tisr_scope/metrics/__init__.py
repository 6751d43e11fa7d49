"""Pure measures of images: fidelity, resolution, temporal consistency, motion."""
