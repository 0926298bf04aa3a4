"""Checks what the page of the wire of versions promises, each promise a sentence.

    python -m versioned [WORD]    all sentences, or those with WORD in them; $CAPSTAN = the binary

Exits 0 when all hold, 1 when one does not (and says which), 2 when used wrongly. Packages: requirements.txt.
"""

import sentences
from versioned import disk, rows, several, terminals, wrong

if __name__ == "__main__":
    sentences.main("versioned", (rows, several, disk, terminals, wrong), __doc__)
