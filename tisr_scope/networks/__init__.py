"""The DPA-TISR network."""
