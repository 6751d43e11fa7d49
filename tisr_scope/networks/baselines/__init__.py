"""Networks that DPA-TISR is compared with."""
