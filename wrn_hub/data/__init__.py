"""Images and labels from a name or a path, and batches of them on the device."""
from .dataset import ImageDataset as ImageDataset
from .sources import load_dataset as load_dataset
