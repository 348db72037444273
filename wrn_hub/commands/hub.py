"""Serve a folder of models as the Hub serves its repositories: pages to browse, and downloads for HF_ENDPOINT.

wrn-hub hub
wrn-hub hub runs --host 0.0.0.0 --port 8000 --org my-lab
"""
from pathlib import Path

from .cli import Parser


def _models() -> Path:
    """Those of the clone, or those that an installed package carries."""
    package = Path(__file__).resolve().parents[1]
    cards = package.parent / "model_cards"
    return cards if cards.is_dir() else package / "pretrained"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", nargs="?",
                        help="with a subfolder per model or per training (model_cards, or what came with the package)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for every one (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free (8000)")
    parser.add_argument("--org", help="organisation that the models are served under (wrn-hub)")
    args = parser.parse_args()

    from .. import models  # noqa: F401  registers those that the pages list
    from ..hub.serve import serve
    from ..hub.store import ORGANISATION, FolderStore

    serve(FolderStore(args.folder or _models(), args.org or ORGANISATION), args.host, args.port)
