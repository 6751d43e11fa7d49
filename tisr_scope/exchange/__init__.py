"""Foreign data in, recordings and pairs out."""
