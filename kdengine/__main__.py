"""``python -m kdengine``: the command line.

Reads / writes: what ``cli`` does. Never: torch at import.
"""

from kdengine.cli import main

main()
