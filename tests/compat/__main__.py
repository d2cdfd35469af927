"""`python3 tests/compat [NAME...]`: unmodified clients against a server, one row for each.

Every client gets a server of its own. A client whose toolchain is missing is skipped; the last line counts, and one that failed makes the
exit code 1. What a failing client and its server said is shown.
"""

import dataclasses
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "api"))
sys.path.insert(0, str(HERE))

import clients  # noqa: E402
import lines  # noqa: E402
import security  # noqa: E402

BUILD_SECONDS_MAX = 1200
RUN_SECONDS_MAX = 300
SHOWN_CHARACTERS_MAX = 6000
STREAMS = re.compile(r"^\S*http2_streams_accepted_total\S* (\d+)", re.MULTILINE)
DISTRUST = re.compile(r"certificate signed by unknown authority")
PASSED = re.compile(r"^passed: (.+)$|^test_(\w+) .*\.\.\. ok$", re.MULTILINE)
WIDTHS = (19, 34, 9, 5, 7, 4)


@dataclasses.dataclass
class Outcome:
    state: str
    passed: list = dataclasses.field(default_factory=list)
    said: str = ""
    seconds: float = 0


def run(command, seconds_max, **options):
    """(exit code, output) of a command; one that does not end in time is killed, and has failed."""
    try:
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
            timeout=seconds_max, **options,
        )  # fmt: skip
        return ended.returncode, ended.stdout
    except subprocess.TimeoutExpired as error:
        said = error.stdout or ""
        said = said.decode(errors="replace") if isinstance(said, bytes) else said
        return 1, f"{said}\nnot done within {seconds_max} s"


def spoke(place, client):
    """What is wrong with the protocol that the client was seen to use; the server counts streams of HTTP/2. A stranger uses none."""
    try:
        page = place.metrics()
    except OSError as error:
        return f"the server does not answer: {error}"
    # Each worker counts its own.
    streams = sum(map(int, STREAMS.findall(page)))
    wanted = client.protocol.startswith("HTTP/2") and not client.stranger
    return "" if (streams > 0) == wanted else f"{client.protocol} was expected, and {streams} streams of HTTP/2 came"


def tried(client, built):
    """Builds (once for all that share a build) and runs one client."""
    missing = client.missing()
    if missing:
        return Outcome("skipped", said=missing)
    start = time.monotonic()
    key = tuple(map(str, client.build))
    if client.build and key not in built:
        built[key] = run(client.build, BUILD_SECONDS_MAX, cwd=client.folder)
    code, said = built.get(key, (0, ""))
    if code != 0:
        return Outcome("FAILED", said=f"the build failed:\n{said}", seconds=time.monotonic() - start)
    place = security.Secured() if client.trust else security.Open()
    server = place.server
    try:
        environment = clients.environment(place.endpoint, *place.credentials, place.told(client))
        code, said = run(client.run(), RUN_SECONDS_MAX, cwd=client.folder, env=environment)
        wrong = spoke(place, client) if server.running() else "the server has ended"
        passed = [what or test.replace("_", " ") for what, test in PASSED.findall(said)]
        if client.stranger:
            good, passed = code != 0 and DISTRUST.search(said) and not passed, ["refuses a server whose authority it is not told of"]
        else:
            good = code == 0 and passed
        if wrong or not good:
            said += f"\n{wrong}\nexit code {code}; the server said:\n{server.output()[-2000:]}"
    finally:
        server.remove()
    return Outcome("passed" if good and not wrong else "FAILED", passed, said, time.monotonic() - start)


def row(*cells):
    *fixed, last = cells
    print("  ".join([*(f"{cell:<{width}}" for cell, width in zip(fixed, WIDTHS, strict=True)), last]), flush=True)


def main(names):
    unknown = set(names) - {client.name for client in clients.CLIENTS}
    if unknown:
        print(f"no client {', '.join(sorted(unknown))}; there are {', '.join(client.name for client in clients.CLIENTS)}")
        return 2
    wanted = [client for client in clients.CLIENTS if not names or client.name in names]
    count = dict.fromkeys(("passed", "FAILED", "skipped"), 0)
    built = {}
    row("client", "version", "protocol", "body", "state", "s", "what passed")
    if not names:
        untrue = lines.untrue()
        state = "FAILED" if untrue else "passed"
        count[state] += 1
        row("CLIENTS.md", "", "", "", state, "0", "; ".join(untrue) or "its lines are those of the programs")
    for client in wanted:
        outcome = tried(client, built)
        count[outcome.state] += 1
        what = outcome.said if outcome.state == "skipped" else "; ".join(outcome.passed)
        row(client.name, client.version(), client.protocol, client.body, outcome.state, f"{outcome.seconds:.0f}", what)
        if outcome.state == "FAILED":
            print(outcome.said[-SHOWN_CHARACTERS_MAX:], flush=True)
    print(f"compat: {count['passed']} passed, {count['FAILED']} failed, {count['skipped']} skipped")
    return 1 if count["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
