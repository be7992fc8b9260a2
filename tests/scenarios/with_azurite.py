"""Runs one command with an Azurite beside it, named in the environment of the Rust tests that want one."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from storage import Azurite

ACCOUNT = "rusttests"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="blobkeep-azurite-") as folder:
        azurite = Azurite(Path(folder), [ACCOUNT]).start()
        try:
            # The suite of stores wants an empty container; that of sources and targets makes its own.
            account = azurite.account(ACCOUNT)
            account.container("store-suite")
            environment = dict(
                os.environ,
                BLOBKEEP_TEST_AZURITE=account.url,
                BLOBKEEP_TEST_AZURITE_ACCOUNT=account.name,
                BLOBKEEP_TEST_AZURITE_KEY=account.key,
                BLOBKEEP_AZURITE=account.connection_string,
            )
            return subprocess.run(sys.argv[1:], env=environment, check=False).returncode
        finally:
            azurite.stop()


if __name__ == "__main__":
    sys.exit(main())
