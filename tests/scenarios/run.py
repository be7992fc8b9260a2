#!/usr/bin/env python3
"""Tells the stories: `run.py [--long] [--go-on] [--seed N] [--result FILE] [NAME…]`.

A NAME is test_seed, test_seed.TestX or test_seed.TestX.test_y.
Prints one line a step with its seconds. FILE gets "PASSED FAILED". The exit code is 1 if a step failed, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


class Printer(unittest.TestResult):
    """One line a step, and the reason at once where it failed."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0
        self.failed: set[str] = set()
        self._started = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._started = time.monotonic()

    def _say(self, verdict: str, test: object, reason: str = "") -> None:
        seconds = time.monotonic() - self._started if self._started else 0.0
        name = test.id() if isinstance(test, unittest.TestCase) else str(test)
        if verdict == "FAILED":
            # A step fails once, however many of its parts do.
            self.failed.add(getattr(test, "test_case", test).id() if isinstance(test, unittest.TestCase) else name)
        print(f"  {verdict:<6} {seconds:7.1f} s  {name}", flush=True)
        lines = reason.strip().splitlines()
        if lines and "not reached: " in lines[-1]:
            lines = lines[-1:]
        for line in lines:
            print(f"         {line}", flush=True)

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.passed += 1
        self._say("ok", test)

    def addFailure(self, test: unittest.TestCase, err: tuple) -> None:  # type: ignore[type-arg,override]
        super().addFailure(test, err)
        self._say("FAILED", test, self.failures[-1][1])

    def addError(self, test: unittest.TestCase, err: tuple) -> None:  # type: ignore[type-arg,override]
        super().addError(test, err)
        self._say("FAILED", test, self.errors[-1][1])

    def addSubTest(self, test, subtest, err) -> None:  # type: ignore[no-untyped-def]
        super().addSubTest(test, subtest, err)
        if err is not None:
            kind = self.failures if issubclass(err[0], test.failureException) else self.errors
            self._say("FAILED", subtest, kind[-1][1])

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._say("skip", test, reason)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="tell the long stories too")
    parser.add_argument("--go-on", action="store_true", help="tell the later steps of a story whose step failed, too")
    parser.add_argument("--seed", type=int, help="tell the histories of this seed; of another one each time without")
    parser.add_argument("--result", type=Path, help='file that gets "PASSED FAILED"')
    parser.add_argument("names", nargs="*", help="stories to tell; all without")
    arguments = parser.parse_args()
    os.environ["BLOBKEEP_LONG"] = "1" if arguments.long else ""
    if arguments.seed is not None:
        os.environ["BLOBKEEP_SEED"] = str(arguments.seed)

    from harness import BLOBKEEP, Story

    Story.goes_on = arguments.go_on
    if not BLOBKEEP.exists():
        print(f"{BLOBKEEP} is not there: build it, or set BLOBKEEP_BIN", file=sys.stderr)
        return 2
    # An end from outside goes through the clean-up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    loader = unittest.TestLoader()
    names = arguments.names or sorted(path.stem for path in HERE.glob("test_*.py"))
    suite = loader.loadTestsFromNames(names)
    result = Printer()
    suite.run(result)
    failed = len(result.failed)
    if arguments.result:
        arguments.result.write_text(f"{result.passed} {failed}\n")
    print(f"scenarios: {result.passed} steps ok, {failed} not, {len(result.skipped)} skipped", flush=True)
    return 1 if failed or not result.passed else 0


if __name__ == "__main__":
    sys.exit(main())
