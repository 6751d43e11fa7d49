"""The escalating-intensity SIM running order: which exposure follows which, and what it costs."""
