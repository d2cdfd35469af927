"""`python3 tests/crash [NAME...]` kills the server in every state it can be in, and audits what it then still has."""

import importlib.util
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
API = HERE.parent / "api"
sys.path.insert(0, str(API))


def runner():
    """The runner of `tests/api`, whose file is called `__main__` as this one is."""
    spec = importlib.util.spec_from_file_location("api_runner", API / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.NOT_TESTS.add("producer")
    return module


if __name__ == "__main__":
    sys.exit(runner().run(HERE, sys.argv[1:]))
