"""Runs a Python program with packages that are older than this Python: older.py FOLDER PROGRAM ARGUMENT...

Python has dropped what botocore of 2019 needs. Here it gets it back: collections has the classes that moved to collections.abc (gone
since Python 3.10), and the installed six takes the place of the copy that botocore brings (which 3.12 cannot load). cgi (gone since 3.13)
is in FOLDER. The packages themselves are as they were published.
"""

import collections
import collections.abc
import importlib
import importlib.machinery
import runpy
import sys

BROUGHT = "botocore.vendored."


class Installed:
    """Finds the installed six and its modules under the names of those that botocore brings."""

    def find_spec(self, name, path=None, target=None):
        if name == BROUGHT + "six" or name.startswith(BROUGHT + "six."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return importlib.import_module(spec.name.removeprefix(BROUGHT))

    def exec_module(self, module):
        pass  # it is loaded


for moved in collections.abc.__all__:
    setattr(collections, moved, getattr(collections.abc, moved))
sys.meta_path.insert(0, Installed())
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
