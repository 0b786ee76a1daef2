"""What stock onnxruntime makes of a detector and a picture of the network's own size: rows of
x1 y1 x2 y2 score class after suppression, as JSON.

    detect.py model.onnx picture.png CONFIDENCE
"""

import ast
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, picture, confidence = sys.argv[1], sys.argv[2], float(sys.argv[3])
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
metadata = session.get_modelmeta().custom_metadata_map
names = ast.literal_eval(metadata["names"])
pixels = np.asarray(Image.open(picture).convert("RGB"), np.float32) / 255
output = session.run(None, {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]})[0][0].T
boxes, scores = output[:, :4], output[:, 4:]
classes, best = scores.argmax(1), scores.max(1)
keep = best > confidence
boxes, classes, best = boxes[keep], classes[keep], best[keep]
corners = np.concatenate((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
order, rows = np.argsort(-best, kind="stable"), []
while len(order):
    first, rest = order[0], order[1:]
    rows.append([*map(float, corners[first]), float(best[first]), names[int(classes[first])]])
    low, high = np.maximum(corners[first, :2], corners[rest, :2]), np.minimum(corners[first, 2:], corners[rest, 2:])
    shared = np.prod(np.clip(high - low, 0, None), 1)
    area = np.prod(corners[:, 2:] - corners[:, :2], 1)
    overlap = shared / (area[first] + area[rest] - shared + 1e-7)
    order = rest[(overlap <= 0.7) | (classes[rest] != classes[first])]
json.dump({"inputs": [[i.name, i.shape, i.type] for i in session.get_inputs()],
           "outputs": [[o.name, o.shape, o.type] for o in session.get_outputs()],
           "metadata": metadata, "rows": rows}, sys.stdout)
