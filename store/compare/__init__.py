"""Comparing runs: statistics, protocol, tables, trade-offs; frames in, frames out. Reads / writes: nothing by itself."""
