"""Builds the client and runs it against servers of its own, without and with credentials; then the SDK's signer against the verifier."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "api"))
import signer  # noqa: E402


RUN = ["cargo", "run", "--quiet", "--locked", "--manifest-path", str(HERE / "Cargo.toml")]


def client():
    server, key, secret = signer.server()
    server.start()
    try:
        names = {"AWS_ENDPOINT_URL_KINESIS": f"http://{server.host}:{server.port}", "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
        return subprocess.run(RUN, env=os.environ | names, timeout=1200).returncode
    finally:
        server.remove()


def main():
    os.environ.pop("PENSTOCK_SIGNED", None)
    plain = client()
    os.environ["PENSTOCK_SIGNED"] = "1"
    return plain or client() or subprocess.run([*RUN, "--bin", "signatures"], timeout=1200).returncode


if __name__ == "__main__":
    sys.exit(main())
