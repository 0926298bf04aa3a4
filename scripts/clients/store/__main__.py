"""Checks what the page of the store's wire promises, each promise a sentence.

    python -m store [WORD]        all sentences, or those with WORD in them; $CAPSTAN = the binary

Exits 0 when all hold, 1 when one does not (and says which), 2 when used wrongly. Packages: requirements.txt.
"""

import sentences
from store import ends, rows, slow, votes, wrong

if __name__ == "__main__":
    sentences.main("store", (rows, slow, ends, votes, wrong), __doc__)
