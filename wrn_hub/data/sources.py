from pathlib import Path
from ..facts import DATASETS
from .dataset import ImageDataset
from .official import FOLDERS, read_official
def load_dataset(name, split, data_dir=None, size=None):
    images, labels = read_official(name, split, Path(data_dir) / FOLDERS[name])
    return ImageDataset(name, split, images, labels, DATASETS[name].classes)
