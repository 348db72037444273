"""Measure training steps beside other loops, inference, how cost grows, and loaders: tables, JSON, a plot.

wrn-hub benchmark --output model_cards/benchmarks/cpu.json   # wrn_16_2; makes cpu.png and cpu.svg too
wrn-hub benchmark --sections inference --model wrn_28_10     # beside pytorchcv's net of this size
wrn-hub benchmark --sections data                            # both pipelines beside timm's loader
wrn-hub benchmark --quick                                    # a rehearsal in a minute or two
wrn-hub benchmark --tables model_cards/benchmarks/cpu.json   # draw again what was measured

--readme model_cards/benchmarks/README.md puts the tables of that folder there.

On an H100 or H200, one GPU, nothing else running:

wrn-hub benchmark --model wrn_28_10 --batch-size 512 --compile max-autotune \\
    --output model_cards/benchmarks/h200.json
wrn-hub benchmark --model wrn_16_2 --batch-size 1024 --compile reduce-overhead --sections train inference \\
    --output model_cards/benchmarks/h200_wrn_16_2.json
"""
import logging
import shlex
import sys
from pathlib import Path

from ..logs import quiet
from .cli import Parser, add_options, options_from


def main() -> None:
    from ..benchmark.options import SECTIONS, BenchmarkOptions

    parser = Parser(__doc__)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS, help="what to measure (all)")
    parser.add_argument("--output", type=Path, help="JSON file to write; the plot lies beside it as .png and .svg")
    parser.add_argument("--tables", type=Path, help="measure nothing: tables and plot of this JSON file")
    parser.add_argument("--readme", type=Path, help="file whose section on speed is brought up to date")
    add_options(parser, BenchmarkOptions)
    args = parser.parse_args()

    from ..benchmark.report import Benchmark, markdown, picture, readme_section
    from ..benchmark.run import measure
    from ..cards.variants import update_between_marks

    if args.tables:
        benchmark, path = Benchmark.read(args.tables), args.tables
    else:
        command = shlex.join(["python", "scripts/benchmark.py", *sys.argv[1:]])
        with quiet("wrn_hub.training", below=logging.WARNING):  # whose epochs are not what is shown here
            benchmark = measure(options_from(BenchmarkOptions, args), tuple(args.sections), command)
        path = args.output
        if path:
            benchmark.write(path)
    print(markdown(benchmark))
    if path:
        picture(benchmark, path)
    if args.readme:
        update_between_marks(args.readme, readme_section(args.readme.parent), "speed")
