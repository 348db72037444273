"""Publish staged models as repositories of the Hub, or only say what that would change.

wrn-hub publish wrn_16_2.cifar10          say what would change; sends nothing
wrn-hub publish wrn_16_2.cifar10 --yes    change it, download it again and compare
wrn-hub publish --all --org my-lab --yes

The staged models are those of a clone. The token is that of HF_TOKEN or of `hf auth login`, the server that of
HF_ENDPOINT.
"""
from .cli import Parser, checkout


def main() -> None:
    parser = Parser(__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help="arch.tag, for example wrn_16_2.cifar10")
    which.add_argument("--all", action="store_true", help="everything that is staged")
    parser.add_argument("--org", help="organisation or user to publish under (wrn-hub)")
    parser.add_argument("--yes", action="store_true", help="do it")
    parser.add_argument("--checkout", metavar="FOLDER", help="clone that holds them (the one that this runs from)")
    args = parser.parse_args()
    clone = checkout(args.checkout)

    from huggingface_hub import HfApi

    from ..hub.publish import ORGANISATION, plan, publish

    api = HfApi()
    plans = plan(api, clone, args.names, args.org or ORGANISATION)
    for one in plans:
        print(f"{one.difference.repo_id}:{' nothing to do' if one.empty else ''}")
        for line in one.lines():
            print(f"  {line}")
    if not args.yes:
        print(f"{sum(one.difference.to_send for one in plans):,} bytes to send to {api.endpoint}; --yes does it")
        return
    for published in publish(api, plans, clone):
        print(f"published and verified: {published}")
