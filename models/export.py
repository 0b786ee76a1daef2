"""Write the ONNX file with the names, layout and metadata that Ultralytics' exporter gives, and hold it to account."""

import copy

import numpy as np
import onnx
import onnxruntime
import onnxslim
import torch
from torch import nn

from net import SamePad, Detector, fold

METADATA = {
    "description": "graftd base model: EfficientNet-lite0 trunk, PAN neck, YOLO11-form head; tree crowns from above",
    "author": "graftd",
    "version": "1",
    "license": "MIT OR Apache-2.0",
    "docs": "models/README.md",
    "stride": "32",
    "task": "detect",
    "batch": "1",
    "imgsz": "[416, 416]",
    "names": "{0: 'tree'}",
    "channels": "3",
    "end2end": "False",
}


def fold_trunk(trunk):
    """The trunk's BatchNorms into its convolutions, and their padding into plain attributes where it is even."""

    def folded(conv, bn):
        scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        out = copy.deepcopy(conv)
        out.weight = nn.Parameter(conv.weight * scale.view(-1, 1, 1, 1))
        out.bias = nn.Parameter(bn.bias - bn.running_mean * scale)
        return out, nn.Identity()

    trunk = copy.deepcopy(trunk).eval()
    with torch.no_grad():
        trunk._conv_stem, trunk._bn0 = folded(trunk._conv_stem, trunk._bn0)
        for block in trunk._blocks:
            if block.expands:
                block._expand_conv, block._bn0 = folded(block._expand_conv, block._bn0)
            block._depthwise_conv, block._bn1 = folded(block._depthwise_conv, block._bn1)
            block._project_conv, block._bn2 = folded(block._project_conv, block._bn2)
    return trunk


def export(trunk, neck, head, path, opset=18):
    model = Detector(fold_trunk(trunk), fold(copy.deepcopy(neck)), fold(copy.deepcopy(head))).eval()
    example = torch.rand(1, 3, 416, 416, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = model(example).numpy()
        torch.onnx.export(model, (example,), path, dynamo=False, opset_version=opset,
                          input_names=["images"], output_names=["output0"])
    proto = onnxslim.slim(onnx.load(path))
    del proto.metadata_props[:]
    for key, value in METADATA.items():
        proto.metadata_props.add(key=key, value=value)
    proto.graph.name = "main_graph"
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(None, {"images": example.numpy()})[0]
    assert got.shape == want.shape, (got.shape, want.shape)
    return float(np.abs(got - want).max())
