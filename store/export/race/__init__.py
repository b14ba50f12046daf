"""Race charts: bars or lines that move through the epochs, as MP4, GIF or PNG.

``gather`` (runs -> ``Order``) -> ``prepare`` (values and places of every frame) -> ``bars`` / ``lines`` (frames) -> ``encode``
(file). ``exports`` queues orders in processes of their own and keeps what they made; ``command`` is ``python -m store race``.

Reads / writes: nothing itself; importing it loads nothing.
"""
