"""Recordings, pairs, patches and the only intensity scaling."""
