"""The exact sliding window and its predictions, frame by frame."""
