"""The splits of a dataset on the Hub, each of them downloaded and prepared when it is asked for.

The ``datasets`` library downloads the files of every split of a configuration whichever one is asked for: of ImageNet
13 GB of test images without labels, and 140 GB of training images for whoever measures. So each split is prepared
alone, in a cache folder of its own below the library's; what the library itself has prepared is taken from there.
"""
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["HubSplits"]


class HubSplits(Mapping[str, Any]):
    """Name -> ``datasets.Dataset``.

    Args:
        hub_id: "org/name".
        config: Of the dataset; None for its one or default configuration.

    Raises:
        Exception: whatever the ``datasets`` library raises where the dataset can't be had.
    """

    def __init__(self, hub_id: str, config: str | None) -> None:
        import datasets

        self.hub_id, self.config = hub_id, config
        self._root = Path(datasets.config.HF_DATASETS_CACHE) / "one_split"
        self._loaded: dict[str, Any] = {}
        self._features: Any = None
        self._builder: Any = None
        try:
            builder = datasets.load_dataset_builder(hub_id, config)
        except ConnectionError:
            names = sorted(path.parent.name for path in self._root.glob(f"*/{hub_id.replace('/', '___')}"))
            if not names:
                raise
            self._names = names
            return
        self._builder = builder
        self._names = [str(name) for name in builder.config.data_files or builder.info.splits or ()]
        self._features = builder.info.features
        if Path(builder.cache_dir).is_dir() or not self._names:
            self._loaded = dict(datasets.load_dataset(hub_id, config))
            self._names = list(self._loaded)

    def features(self, name: str) -> dict[str, Any]:
        """Of a split, as a dict; where the dataset's card or the head of a file tells them, nothing is downloaded."""
        found = self._features
        if found is None and self._builder is not None and name not in self._loaded:
            found = self._builder.as_streaming_dataset(split=name).features
        return (found or self[name].features).to_dict()

    def __getitem__(self, name: str) -> Any:
        import datasets

        if name not in self._names:
            raise KeyError(name)
        if name not in self._loaded:
            builder = datasets.load_dataset_builder(self.hub_id, self.config, cache_dir=str(self._root / name))
            files = builder.config.data_files
            if files and name in files:
                builder.config.data_files = type(files)({name: files[name]})
            builder.download_and_prepare(verification_mode="no_checks")  # which would miss the other splits
            self._loaded[name] = builder.as_dataset(split=name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
