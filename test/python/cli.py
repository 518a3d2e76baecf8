"""The AWS CLI for many calls: loads it once, and copies itself for each call.

Each line of standard input is a call, as JSON: its arguments, its whole environment, and the files for its output. The answer is
a line with its exit code. A call is as separate as a program of its own, and takes the CLI's own way from its entry to its end;
what is saved is Python's start and the import of some hundred modules.
"""

import json
import os
import signal
import sys
import traceback

import awscli.clidriver

#: Where the CLI's own data are; importing it has put that into the environment.
DATA = os.environ["AWS_DATA_PATH"]

SECONDS = 120


def main():
    for line in sys.stdin:
        call = json.loads(line)
        child = os.fork()
        if not child:
            become(call["args"], call["env"], call["streams"])
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(args, env, streams):
    """Is one call of the CLI; does not return."""
    code = 1
    signal.alarm(SECONDS)
    try:
        sys.stdin = open(os.devnull, encoding="utf-8")
        for number, path in zip((1, 2), streams):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
        sys.stdout, sys.stderr = open(1, "w", encoding="utf-8"), open(2, "w", encoding="utf-8")
        os.environ.clear()
        os.environ.update(env, AWS_DATA_PATH=DATA)
        sys.argv = ["aws", *args]
        code = awscli.clidriver.main()
    except SystemExit as e:
        code = e.code
    except BaseException:  # as Python itself does with what nobody catches
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    main()
