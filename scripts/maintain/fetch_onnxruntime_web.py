"""Fetch what runs nets in a browser, onnxruntime-web (MIT), into the hub's static files; git ignores it.

python scripts/maintain/fetch_onnxruntime_web.py          # or make try-in-browser

npm fetches the pinned version and checks it; its sum is checked here too. Without it the hub's server looks at
pictures itself.
"""
import hashlib
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from wrn_hub.commands.cli import run
from wrn_hub.errors import UserError
from wrn_hub.files import write_whole
from wrn_hub.hub.tryit import ORT, WASM

ROOT = Path(__file__).resolve().parents[2]
VERSION = "1.30.0"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
VENDOR = ROOT / "wrn_hub" / "hub" / "static" / "vendor"


def fetch() -> list[Path]:
    """Put the files into their place; returns them.

    Raises:
        UserError: there is no npm, it fails, or what it fetched isn't what was pinned.
    """
    with TemporaryDirectory() as place:
        try:
            subprocess.run(["npm", "pack", "--silent", f"onnxruntime-web@{VERSION}"], cwd=place, check=True)
        except FileNotFoundError:
            raise UserError(
                "npm is needed to fetch onnxruntime-web: install it (on Debian: apt-get install npm)") from None
        except subprocess.CalledProcessError as error:
            raise UserError(f"npm ended with {error.returncode} and fetched nothing") from None
        (archive,) = Path(place).glob("*.tgz")
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != SHA256:
            raise UserError(f"onnxruntime-web {VERSION} has the sha256 {found}, expected is {SHA256}")
        VENDOR.mkdir(exist_ok=True)
        shutil.unpack_archive(archive, place, filter="data")
        for name in (ORT, WASM):
            write_whole(VENDOR / name, (Path(place) / "package" / "dist" / name).read_bytes())
    return [VENDOR / name for name in (ORT, WASM)]


def main() -> None:
    for path in fetch():
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main)
