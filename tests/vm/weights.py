"""Compares what two runs have made of the same base: weights.py ONE OTHER BASE. Exit status 1 when they differ.

Where objects are assigned is decided by which of two numbers is larger, so that rounding may decide; and AdamW makes a
whole step of a tiny gradient. So two runtimes or machines don't come to the same weights, but to nearly the same.
"""

import sys

import numpy
import onnx
from onnx import numpy_helper

# Of how far training has gone. The two runtimes on one machine are 0.0012 apart.
MOST = 0.02


def weights(path):
    return {tensor.name: numpy_helper.to_array(tensor).astype(float) for tensor in onnx.load(path).graph.initializer
            if tensor.data_type == onnx.TensorProto.FLOAT}


one, other, base = map(weights, sys.argv[1:4])
trained = [name for name in one if name in base and not numpy.array_equal(one[name], base[name])]
if one.keys() != other.keys() or not trained:
    sys.exit("weights: these are not two models that were trained from this base")
one, other, base = (numpy.concatenate([tensors[name].ravel() for name in trained]) for tensors in (one, other, base))
apart = numpy.linalg.norm(one - other) / numpy.linalg.norm(one - base)
print(f"{one.size} weights in {len(trained)} tensors, apart by {apart:.1e} of the way that training took them, "
      f"by {abs(one - other).max():.1e} at most")
sys.exit(0 if apart <= MOST else 1)
