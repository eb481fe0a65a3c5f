"""The .npy format."""

import numpy as np
from outputs.conformance import OutputConformance

from roicli.outputs.npy import Npy


class TestNpy(OutputConformance):
    format, suffix = Npy(), ".npy"

    def features(self, path):
        return np.load(path)
