"""From Monte Carlo passes to a confidence that means what it says."""
