"""Builds the client and runs it against a server of its own."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "api"))
import appliance  # noqa: E402


def main():
    server = appliance.Appliance().start()
    try:
        environment = os.environ | {"AWS_ENDPOINT_URL_KINESIS": f"http://{server.host}:{server.port}"}
        return subprocess.run(["go", "run", "-mod=readonly", "."], cwd=HERE, env=environment, timeout=1200).returncode
    finally:
        server.remove()


if __name__ == "__main__":
    sys.exit(main())
