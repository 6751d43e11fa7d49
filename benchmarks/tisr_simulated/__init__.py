"""Networks compared on simulated tubes: ``python -m benchmarks.tisr_simulated --help``."""
