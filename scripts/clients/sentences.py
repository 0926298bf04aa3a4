"""Runs the checks of a package: functions that are marked with the sentence that they check (`lab.sentence`)."""

import sys
import time
import traceback
from inspect import isfunction

import lab


def main(package, modules, usage):
    """Checks all sentences of these modules, or those with the word of the command line in them, and exits."""
    words = sys.argv[1:]
    checks = [each for module in modules for each in vars(module).values() if isfunction(each) and hasattr(each, "sentence")]
    chosen = [each for each in checks if all(word in each.sentence for word in words)]
    if len(words) > 1 or not chosen:
        print(usage, file=sys.stderr)
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
            place = next(frame for frame in reversed(trace) if f"/{package}/" in frame.filename)
            reason = str(error) if isinstance(error, lab.Failed) else f"{type(error).__name__}: {error}"
            print(f"{package}: NOT SO: {each.sentence}\n    {place.filename}:{place.lineno}: {reason}", file=sys.stderr)
        else:
            print(f"{package}: {each.sentence} ({time.monotonic() - since:.1f} s)")
    if failed:
        print(f"{package}: {failed} of {len(chosen)} sentences do not hold", file=sys.stderr)
        sys.exit(1)
    print(f"{package}: all {len(chosen)} sentences hold ({time.monotonic() - begin:.0f} s)")
