"""Files of others: MRC, DeltaVision, TIFF, and the published layouts of raw SIM data."""
