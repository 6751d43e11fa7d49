"""The DPA-TISR network and its bundles."""
