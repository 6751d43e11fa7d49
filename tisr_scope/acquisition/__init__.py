"""From a profile to a recording: microscope, strict engine, light."""
