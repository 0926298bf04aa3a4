"""Checks what the page of the shards' wire promises, each promise a sentence.

    python -m shards [WORD]       all sentences, or those with WORD in them; $CAPSTAN = the binary

Exits 0 when all hold, 1 when one does not (and says which), 2 when used wrongly. Packages: requirements.txt.
"""

import sentences
from shards import groups, moves, rows, wrong

if __name__ == "__main__":
    sentences.main("shards", (rows, moves, groups, wrong), __doc__)
