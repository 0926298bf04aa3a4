"""Checks what the page of the pairs wire promises, each promise a sentence.

    python -m pairs [WORD]        all sentences, or those with WORD in them; $CAPSTAN = the binary

Exits 0 when all hold, 1 when one does not (and says which), 2 when used wrongly. Packages: requirements.txt.
"""

import sentences
from pairs import crowds, disk, programs, rows, terminals, wrong

if __name__ == "__main__":
    sentences.main("pairs", (rows, crowds, programs, terminals, wrong, disk), __doc__)
