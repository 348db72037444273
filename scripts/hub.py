"""Serve a folder of models as the Hub serves its repositories: pages to browse, and downloads for HF_ENDPOINT.

python scripts/hub.py
python scripts/hub.py runs --host 0.0.0.0 --port 8000 --org my-lab
"""
from pathlib import Path

from wrn_hub.cli import Parser, run

CARDS = Path(__file__).resolve().parent.parent / "model_cards"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default=CARDS,
                        help="with a subfolder per model or per training (model_cards)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for every one (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free (8000)")
    parser.add_argument("--org", help="organisation that the models are served under (wrn-hub)")
    args = parser.parse_args()

    from wrn_hub.hub.serve import serve
    from wrn_hub.hub.store import ORGANISATION, FolderStore

    serve(FolderStore(args.folder, args.org or ORGANISATION), args.host, args.port)


if __name__ == "__main__":
    run(main)
