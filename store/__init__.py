"""The results: an index of all run folders in DuckDB, the questions one asks it, and free SQL in a child process.

Reads: run folders, through kdengine's light rooms. Writes: ``results.duckdb``, ``snapshot.duckdb`` and their locks.
Never: torch, Streamlit, a worker; importing it loads nothing heavy.
"""
