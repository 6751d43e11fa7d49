"""Wide-field inputs with their SIM targets: made, judged, split, cut into patches."""
