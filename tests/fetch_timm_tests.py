"""Fetch timm's own tests/test_models.py, of the installed version, out of its source distribution.

Kept in tests/.timm/<version>/, outside of version control; tests/test_timm_suite.py runs it on our models.
"""
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

VERSION = version("timm")
SUITE = Path(__file__).parent / ".timm" / VERSION / "test_models.py"


def main() -> None:
    if SUITE.is_file():
        return
    with tempfile.TemporaryDirectory() as folder:
        # pip asks whichever index this environment was made from; to read the metadata it installs timm's build
        # backend aside, which is why this is not done within a test
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "timm", "--dest", folder]
        run = subprocess.run([*pip, f"timm=={VERSION}"], stderr=subprocess.PIPE, text=True)
        archives = list(Path(folder).glob("timm-*.tar.gz"))
        if run.returncode or not archives:
            why = (run.stderr.strip().splitlines() or ["no archive came"])[-1]
            sys.exit(f"timm {VERSION}'s own tests are not to be had: pip could not download its sources ({why})")
        with tarfile.open(archives[0]) as archive:
            text = archive.extractfile(f"timm-{VERSION}/tests/test_models.py").read()
    SUITE.parent.mkdir(parents=True, exist_ok=True)
    SUITE.write_bytes(text)
    print(f"timm {VERSION}'s own tests are in {SUITE}")


if __name__ == "__main__":
    main()
