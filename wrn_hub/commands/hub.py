"""Serve a folder of models as the Hub serves its repositories: pages to browse, and downloads for HF_ENDPOINT.

wrn-hub hub
wrn-hub hub runs --host 0.0.0.0 --port 8000 --org my-lab
wrn-hub hub --export site          # all pages as files, for GitHub Pages, a static Space or any other web server
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
    parser.add_argument("--no-try", action="store_true", help="models can't be tried on pictures")
    parser.add_argument("--export", metavar="FOLDER", help="write the pages and all files there, and end")
    args = parser.parse_args()

    from ..hub.serve import serve
    from ..hub.store import ORGANISATION, FolderStore

    store = FolderStore(args.folder or _models(), args.org or ORGANISATION)
    if args.export:
        from ..hub.export import export

        size, missing = export(store, args.export)
        for line in missing:
            print(f"not there, though a page names it: {line}")
        print(f"{args.export}: {size / 1e6:.1f} MB of static pages, without the comparison of models and what programs "
              f"ask; to look at them: python -m http.server --directory {args.export}")
        return
    serve(store, args.host, args.port, try_it=not args.no_try)
