"""The folder of staged models: what a Hub organisation will be."""
