"""Images and labels from a name or a path, and batches of them on the device."""
from .dataset import ImageDataset as ImageDataset
from .files import FileDataset as FileDataset
from .sources import load_dataset as load_dataset
from .sources import load_files as load_files
