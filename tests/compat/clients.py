"""The table of clients: what each needs, how it is built, how it runs, what it speaks."""

import dataclasses
import os
import pathlib
import re
import shutil
import sys

import appliance

HERE = pathlib.Path(__file__).resolve().parent
TARGET = appliance.TARGET.absolute()
JAVA = TARGET / "compat-java"
GO = TARGET / "compat-go"
# By the first tool that a client needs: what it takes an authority from.
TRUST = {
    "python": "AWS_CA_BUNDLE", "node": "NODE_EXTRA_CA_CERTS", "mvn": "JDK_JAVA_OPTIONS", "go": "SSL_CERT_FILE", "cargo": "SSL_CERT_FILE",
}  # fmt: skip


@dataclasses.dataclass
class Client:
    """`command` may have a function among its words, which is called when the client runs."""

    name: str
    command: list
    protocol: str
    body: str
    version: object
    folder: pathlib.Path = HERE
    build: list = dataclasses.field(default_factory=list)
    needs: tuple = ()
    packages: tuple = ()
    # The variable that names the authority to it: the server speaks TLS and verifies signatures.
    trust: str = ""
    # It is not told of the authority after all, and must refuse the server.
    stranger: bool = False

    def missing(self):
        """Why it cannot be tried here, or nothing."""
        tools = [tool for tool in self.needs if not shutil.which(tool)]
        if tools:
            return f"there is no {' and no '.join(tools)}"
        absent = [name for name in self.packages if not package(name)]
        return f"Python has no {' and no '.join(absent)}" if absent else ""

    def run(self):
        return [word() if callable(word) else word for word in self.command]


def secured(client, name=None, **changes):
    """The same once more, at a server that speaks TLS and verifies signatures."""
    tool = client.needs[0] if client.needs else "python"
    # Where HTTP/2 is agreed on, these take it.
    protocol = "HTTP/2" if tool in ("go", "cargo") else client.protocol
    return dataclasses.replace(client, name=name or f"{client.name}-secure", trust=TRUST[tool], protocol=protocol, **changes)


def environment(endpoint, key="any", secret="any", told=()):
    """Nothing of whoever runs this: no profile, no region, no proxy between the client and a server of this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_") and not name.lower().endswith("_proxy")}
    return kept | {
        "AWS_ENDPOINT_URL_KINESIS": endpoint,
        "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
        "AWS_ENDPOINT_URL_CLOUDWATCH": endpoint,
        "PENSTOCK_ENDPOINT": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        **dict(told),
    }


def package(name):
    """The version of a Python package, None where it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def in_file(path, pattern, before=""):
    """A function that finds a version in a file of this folder, so that the row shows what the build is told to take."""

    def found():
        match = re.search(pattern, (HERE / path).read_text())
        return before + (match[1] if match else "?")

    return found


def java(program, protocol, body, name, *arguments, **options):
    """A program of the one Maven project; `java` itself runs it, from the class path that the build has left."""
    classes = f"{JAVA / 'classes'}{os.pathsep}"
    return Client(
        name=name,
        command=["java", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp",
                 lambda: classes + (JAVA / "classpath").read_text().strip(), program, *arguments],
        protocol=protocol, body=body, folder=HERE / "java", needs=("mvn", "javac"),
        build=["mvn", "--quiet", "--batch-mode", f"-Dbuild.target={JAVA}", "compile"],
        version=options.pop("version", in_file("java/pom.xml", r"(?s)<artifactId>bom</artifactId>\s*<version>([\d.]+)", "aws-sdk-java ")),
        **options,
    )  # fmt: skip


def javascript(program, protocol, name):
    return Client(
        name=name, command=["node", program], protocol=protocol, body="JSON", folder=HERE / "javascript", needs=("node", "npm"),
        build=["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund"],
        version=in_file("javascript/package.json", r'"@aws-sdk/client-kinesis": "([\d.]+)"', "@aws-sdk/client-kinesis "),
    )  # fmt: skip


def go(program, name):
    return Client(
        name=name, command=[GO / "bin" / program], protocol="HTTP/1.1", body="JSON", folder=HERE / "go", needs=("go",),
        build=["go", "build", "-mod=readonly", "-o", f"{GO / 'bin'}/", "./..."],
        version=in_file("go/go.mod", r"service/kinesis v([\d.]+)", "aws-sdk-go-v2/kinesis "),
    )  # fmt: skip


def rust(program, name):
    return Client(
        name=name, command=[TARGET / "debug" / program], protocol="HTTP/1.1", body="JSON", folder=HERE / "rust", needs=("cargo",),
        build=["cargo", "build", "--quiet", "--locked", "--target-dir", str(TARGET)],
        version=in_file("rust/Cargo.lock", r'name = "aws-sdk-kinesis"\nversion = "([\d.]+)"', "aws-sdk-kinesis "),
    )  # fmt: skip


def python(module, name, package_name):
    return Client(
        name=name, command=[sys.executable, "-m", "unittest", "-v", module], protocol="HTTP/1.1", body="JSON",
        packages=(package_name,), version=lambda: f"{package_name} {package(package_name)}",
    )  # fmt: skip


KCL = in_file("java/pom.xml", r"<artifactId>amazon-kinesis-client</artifactId>\s*<version>([\d.]+)", "amazon-kinesis-client ")

KPL = in_file("java/pom.xml", r"<artifactId>amazon-kinesis-producer</artifactId>\s*<version>([\d.]+)", "amazon-kinesis-producer ")

PLAIN = [
    python("boto", "boto3", "boto3"),
    python("command_line", "command-line", "awscli"),
    javascript("main.js", "HTTP/2", "javascript"),
    java("Synchronous", "HTTP/1.1", "CBOR", "java"),
    java("Asynchronous", "HTTP/2", "CBOR", "java-async"),
    go("records", "go"),
    rust("records", "rust"),
]

CLIENTS = [
    *PLAIN,
    *map(secured, PLAIN),
    secured(go("records", "go"), "go-stranger", stranger=True),
    rust("signatures", "rust-signer"),
    python("lease_tables", "lease-tables", "boto3"),
    javascript("subscribing.js", "HTTP/2", "javascript-fan"),
    java("Subscribing", "HTTP/2", "JSON", "java-fan"),
    java("Aggregated", "HTTP/1.1", "CBOR", "kcl-aggregated", version=KCL),
    java("Shared", "HTTP/2", "CBOR", "kcl", "orders", version=KCL),
    secured(java("Shared", "HTTP/2", "CBOR", "kcl", "orders", version=KCL)),
    secured(java("Producing", "HTTP/1.1", "JSON", "kpl", str(JAVA / "native"), version=KPL), "kpl"),
]
