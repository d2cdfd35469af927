"""Holds one thread of a process still, as a debugger would, until its own standard input ends.

held.py PROCESS THREAD: THREAD is the thread's name. Says "held" when it stands. Ends with 77 where this may not be done to another process.
"""

import ctypes
import errno
import os
import sys

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
ANY_THREAD = 0x40000000  # __WALL: also one that is not the first of its process


def thread_of(process, name):
    for thread in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{thread}/comm") as comm:
            if comm.read().strip() == name:
                return int(thread)
    sys.exit(f"process {process} has no thread {name}")


def main():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    thread = thread_of(int(sys.argv[1]), sys.argv[2])
    for request in (SEIZE, INTERRUPT):
        if libc.ptrace(request, thread, None, None):
            error = ctypes.get_errno()
            sys.exit(77 if error in (errno.EPERM, errno.EACCES, errno.ENOSYS) else os.strerror(error))
    os.waitpid(thread, ANY_THREAD)
    print("held", flush=True)
    sys.stdin.read()
    # Without this it would go on as well: whoever traces and ends lets go.
    libc.ptrace(DETACH, thread, None, None)


main()
