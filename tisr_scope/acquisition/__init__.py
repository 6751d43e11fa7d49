"""From a profile to a recording: running order, strict engine, safety, recorder."""
