"""Pieces that pages are made of. Reads / writes: nothing."""
