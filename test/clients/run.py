"""Runs all client tests and compares what they called with what the simulator offers.

An operation that no test has called, and whose response was so never held against the model, is a failure: a suite that
grows slower than the simulator would be no proof.
"""

import json
import sys
import unittest

import harness


def main():
    suite = unittest.defaultTestLoader.discover(sys.path[0], pattern="test_*.py")
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    server = harness.Server({"accounts": [{"id": harness.MANAGEMENT}]})
    try:
        offered = {(o["service"], o["operation"]) for o in json.loads(server.control("operations"))}
    finally:
        server.stop()
    missing = sorted(offered - harness.COVERED)
    for service, operation in missing:
        print(f"no client test calls {service}:{operation}")
    print(f"{len(offered & harness.COVERED)} of {len(offered)} operations were called and their responses checked")
    return 0 if result.wasSuccessful() and result.testsRun and offered and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
