"""Runs all client tests and compares what they called with what the simulator offers.

An operation that no test has called, and whose response was so never held against the model, is a failure: a suite that
grows slower than the simulator would be no proof.

Each class has a simulated world of its own, in which most of the time is spent waiting for it, so that several classes run at a
time, each in a process of its own.
"""

import concurrent.futures
import io
import json
import os
import sys
import time
import unittest

import harness

#: Classes at a time. They wait more than they compute.
WORKERS = max(4, 3 * (os.cpu_count() or 1))


def classes():
    """The names of all classes of tests."""
    names = set()

    def walk(suite):
        for test in suite:
            if isinstance(test, unittest.TestSuite):
                walk(test)
            else:
                names.add(f"{type(test).__module__}.{type(test).__qualname__}")

    walk(unittest.defaultTestLoader.discover(sys.path[0], pattern="test_*.py"))
    return sorted(names)


def run(name):
    """Runs one class: what there is to say, how many tests it has, whether all went well, and what was called and checked."""
    said, began = io.StringIO(), time.monotonic()
    harness.COVERED.clear()
    result = unittest.TextTestRunner(stream=said, verbosity=2).run(unittest.defaultTestLoader.loadTestsFromName(name))
    said.write(f"{name} took {time.monotonic() - began:.1f} s\n")
    return said.getvalue(), result.testsRun, result.wasSuccessful(), set(harness.COVERED)


def main():
    names, covered, tests, good = classes(), set(), 0, True
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run, name) for name in names]):
            said, count, well, called = done.result()
            print(said, flush=True)
            tests, good, covered = tests + count, good and well and count > 0, covered | called
    server = harness.Server({"accounts": [{"id": harness.MANAGEMENT}]})
    try:
        offered = {(o["service"], o["operation"]) for o in json.loads(server.control("operations"))}
    finally:
        server.stop()
    missing = sorted(offered - covered)
    for service, operation in missing:
        print(f"no client test calls {service}:{operation}")
    print(f"{tests} tests in {len(names)} classes; {len(offered & covered)} of {len(offered)} operations were called and their "
          "responses checked")
    return 0 if good and tests and offered and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
