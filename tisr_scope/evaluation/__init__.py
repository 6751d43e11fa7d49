"""Models against each other, against enlarged wide field, and against the truth."""
