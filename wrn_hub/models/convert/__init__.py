"""Checkpoints of other Wide ResNets, in our names.

A file is read without running anything in it (:mod:`wrn_hub.pickles`, :mod:`.files`), its weights are found
(:mod:`.checkpoint`), their names understood (:mod:`.layouts`), and a net of ours is given them (:mod:`.net`).
"""
from .checkpoint import read_checkpoint as read_checkpoint
from .layouts import LAYOUTS as LAYOUTS
from .layouts import Layout as Layout
from .layouts import recognise as recognise
from .net import Converted as Converted
from .net import convert as convert
from .net import convert_file as convert_file
