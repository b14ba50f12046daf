"""Results to take away. Reads / writes: nothing by itself."""
