"""A recording on disk: frames, journal and profile, written and read in one place."""
