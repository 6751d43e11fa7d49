"""What a user may ask of a microscope, and nothing that runs it."""
