"""Runs a program that is ended by its first system call which a filter does not allow.

filtered.py FILTER COMMAND...: FILTER is a profile for containers (JSON), or names of system calls, one a line. Ends with 77 where this machine
cannot say which number a call has.
"""

import ctypes
import json
import os
import re
import struct
import sys

HEADER = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
X86_64 = 0xC000003E
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16


def instruction(code, value, otherwise=0):
    return struct.pack("=HBBI", code, 0, otherwise, value)


def rules(text):
    """(name, mask of the first argument that must be clear or None, what it is answered) of each call."""
    if not text.lstrip().startswith("{"):
        return [(name, None, ALLOW) for name in text.split()]
    profile = json.loads(text)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    out = []
    for rule in profile["syscalls"]:
        mask = None
        for arg in rule.get("args", []):
            assert arg["op"] == "SCMP_CMP_MASKED_EQ" and arg["index"] == 0 and arg["valueTwo"] == 0
            mask = arg["value"]
        answer = ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else ERRNO | rule["errnoRet"]
        out += [(name, mask, answer) for name in rule["names"]]
    return out


def program(text, numbers):
    # An architecture that is not this one is ended: its numbers mean other calls.
    out = [
        instruction(LOAD, ARCHITECTURE),
        struct.pack("=HBBI", EQUAL, 1, 0, X86_64),
        instruction(RETURN, KILL),
        instruction(LOAD, NUMBER),
    ]
    for name, mask, answer in rules(text):
        if name not in numbers:
            continue
        if mask is None:
            out += [instruction(EQUAL, numbers[name], 1), instruction(RETURN, answer)]
        else:
            out += [
                instruction(EQUAL, numbers[name], 5),
                instruction(LOAD, FIRST_ARGUMENT),
                instruction(AND, mask),
                instruction(EQUAL, 0, 1),
                instruction(RETURN, answer),
                instruction(LOAD, NUMBER),
            ]
    return b"".join(out + [instruction(RETURN, KILL)])


def main():
    try:
        header = open(HEADER).read()
    except OSError:
        sys.exit(77)
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header)}
    code = program(open(sys.argv[1]).read(), numbers)
    memory = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    filter = Program(len(code) // 8, ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(filter)):
        sys.exit(f"the filter is refused: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[2], sys.argv[2:])


main()
