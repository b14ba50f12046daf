"""Parts of the race page: who races, the player, how it looks, the export, the gallery. Reads / writes: nothing itself."""
