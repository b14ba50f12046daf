"""Pieces of the pages to learn from: methods, networks and data. Reads / writes: nothing by itself."""
