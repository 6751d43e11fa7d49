"""The live window; the only package that imports Qt."""
