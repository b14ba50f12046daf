"""Pieces of the compare page, one per tab. Reads / writes: nothing by itself."""
