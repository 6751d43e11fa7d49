"""SIM images from raw frames and parameters, in two and three dimensions."""
