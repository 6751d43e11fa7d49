"""How good a reconstruction is: numbers, findings, pages."""
