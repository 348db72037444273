"""What users type: one file a command, which parses, calls and prints; its docstring is its help."""

__all__ = ["COMMANDS"]

COMMANDS = ("train", "finetune", "evaluate", "predict", "export", "convert", "hub", "publish", "benchmark", "study")
