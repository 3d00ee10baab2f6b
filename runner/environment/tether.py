"""`tether.py PARENT COMMAND…` becomes COMMAND, which the kernel ends when PARENT dies, by whatever signal.

A build that outlived its supervisor would write into the very folder in which the next supervisor builds anew.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; kept across exec, see prctl(2)


def main() -> None:
    """Replace this process by the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It died before the line above.
        os.kill(os.getpid(), signal.SIGKILL)
    os.execvp(command[0], command)  # noqa: S606  # an argument list of ours, no shell


if __name__ == "__main__":
    main()
