"""Makes Python of the server's protocol while the package is built: what is generated is not kept in the tree."""

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
PROTOCOL = HERE.parent.parent / "server/proto/antiphon/voice/v1/voice.proto"


class BuildWithProtocol(build_py):
    def run(self):
        super().run()
        from grpc_tools import protoc

        if not PROTOCOL.exists():
            raise SystemExit(f"{PROTOCOL} is missing: install from a checkout of the whole repository")
        with tempfile.TemporaryDirectory() as folder:
            # Under this name the modules import each other from within the package.
            copy = Path(folder, "antiphon_voice", "voice.proto")
            copy.parent.mkdir()
            shutil.copy(PROTOCOL, copy)
            out = str(Path(self.build_lib))
            arguments = ["", f"-I{folder}", f"--python_out={out}", f"--grpc_python_out={out}", str(copy)]
            if protoc.main(arguments) != 0:
                raise SystemExit("the protocol could not be compiled")


# What was generated wants runtimes that are no older than what generated it.
setup(
    cmdclass={"build_py": BuildWithProtocol},
    install_requires=[f"grpcio>={version('grpcio-tools')}", f"protobuf>={version('protobuf')}"],
)
