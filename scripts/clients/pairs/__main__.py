"""Checks what the page of the pairs wire promises, each promise a sentence.

    python -m pairs [WORD]        all sentences, or those with WORD in them; $CAPSTAN = the binary

Exits 0 when all hold, 1 when one does not (and says which), 2 when used wrongly. Packages: requirements.txt.
"""

import sys
import time
import traceback
from inspect import isfunction

import lab
from pairs import crowds, disk, programs, rows, terminals, wrong

MODULES = (rows, crowds, programs, terminals, wrong, disk)


def main():
    words = sys.argv[1:]
    checks = [each for module in MODULES for each in vars(module).values() if isfunction(each) and hasattr(each, "sentence")]
    chosen = [each for each in checks if all(word in each.sentence for word in words)]
    if len(words) > 1 or not chosen:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    lab.end_on_signals()
    begin = time.monotonic()
    failed = 0
    for each in chosen:
        since = time.monotonic()
        try:
            each()
        except Exception as error:
            failed += 1
            trace = traceback.extract_tb(error.__traceback__)
            place = next(frame for frame in reversed(trace) if "/pairs/" in frame.filename)
            reason = str(error) if isinstance(error, lab.Failed) else f"{type(error).__name__}: {error}"
            print(f"pairs: NOT SO: {each.sentence}\n    {place.filename}:{place.lineno}: {reason}", file=sys.stderr)
        else:
            print(f"pairs: {each.sentence} ({time.monotonic() - since:.1f} s)")
    if failed:
        print(f"pairs: {failed} of {len(chosen)} sentences do not hold", file=sys.stderr)
        sys.exit(1)
    print(f"pairs: all {len(chosen)} sentences hold ({time.monotonic() - begin:.0f} s)")


if __name__ == "__main__":
    main()
