"""Parts of the page for who looks after the server: people, storage, the log of what was done. Reads / writes: see each part."""
