"""Whether images show the light and the patterns that were commanded, from the images alone."""
