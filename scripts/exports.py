"""Makes exports of every family and form with the real exporters, for graftd to be tried on.

The networks are Ultralytics' own descriptions with random weights: structure, names and metadata are
what users have, what they detect is noise. `exports.json` in the folder says, for each file, what
graftd should find in it. `--tiny` makes the small ones that the tests ship (`tests/data/exports`).

    exports.py FOLDER [--tiny] [--only PATTERN…] [--list]
"""

import argparse
import contextlib
import fnmatch
import io
import json
import math
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_VERBOSE", "false")

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

NAMES = ["weed", "hen's egg", "pallet", "crown"]


def names_of(count):
    return {index: NAMES[index] if index < len(NAMES) else f"class{index}" for index in range(count)}


# --- networks -------------------------------------------------------------------------------------


def tiny_description(head="Detect", levels=(3, 4, 5), reg_max=16, end2end=False):
    """A network of a dozen convolutions with a real head, which reads these halvings of the picture."""
    backbone = [[-1, 1, "Conv", [4 if level == 1 else 8, 3, 2]] for level in range(1, levels[-1] + 1)]
    last = len(backbone) - 1
    # The last level but one is mixed with the coarsest, as a neck does.
    neck = [[-1, 1, "nn.Upsample", ["None", 2, "nearest"]], [[-1, last - 1], 1, "Concat", [1]], [-1, 1, "C2f", [8]]]
    reads = [level - 1 for level in levels]
    reads[-2] = last + len(neck)
    return {
        "end2end": end2end,
        "reg_max": reg_max,
        "depth_multiple": 1.0,
        "width_multiple": 1.0,
        "backbone": backbone,
        "head": [*neck, [reads, 1, head, ["nc", 8, 8] if head == "Segment" else ["nc"]]],
    }


def network(description, classes, seed, tiny):
    """A YOLO with random weights whose statistics are those of noise, and whose scores differ."""
    from ultralytics import YOLO
    from ultralytics.nn.tasks import yaml_model_load

    torch.manual_seed(seed)
    file = "yolo11n-tiny.yaml"
    if not isinstance(description, dict):
        file, description = description, yaml_model_load(description)
    if "rtdetr" in file:
        from ultralytics import RTDETR as YOLO
    folder = Path(tempfile.mkdtemp())
    # The name says scale and family, the content the classes.
    (folder / file).write_text(json.dumps({**description, "nc": classes}))
    with contextlib.chdir(folder):
        yolo = YOLO(folder / file)
    model = yolo.model
    head = model.model[-1]
    if tiny:
        narrow(head)
    if hasattr(head, "nc"):
        model.names = names_of(head.nc)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        # A plain average over what follows; making the network has left traces.
        norm.reset_running_stats()
        norm.momentum = None
        with torch.no_grad():
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.uniform_(-0.3, 0.3)
    model.train()
    with torch.no_grad():
        for _ in range(2):
            # Some heads can't be trained without labels; the body has been run by then.
            with contextlib.suppress(Exception):
                model(torch.rand(2, 3, 192, 192))
    for norm, momentum in zip(norms, kept):
        norm.momentum = momentum
    for name in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):
        for branch in getattr(head, name, None) or []:
            last = branch[-1]
            with torch.no_grad():
                last.bias.uniform_(-1.5, 0.5) if name.endswith("cv3") else last.bias.uniform_(0.5, 2.0)
    return yolo


def narrow(head, width=8):
    """The head with `width` channels inside: the real one has at least 64, which no test needs."""
    from ultralytics.nn.modules import Conv, DWConv

    def sequence(old, branch):
        read, written = old[0][0].conv.in_channels if isinstance(old[0], nn.Sequential) else old[0].conv.in_channels, old[-1].out_channels
        if branch.endswith("cv3") and isinstance(old[0], nn.Sequential):
            return nn.Sequential(
                nn.Sequential(DWConv(read, read, 3), Conv(read, width, 1)),
                nn.Sequential(DWConv(width, width, 3), Conv(width, width, 1)),
                nn.Conv2d(width, written, 1),
            )
        return nn.Sequential(Conv(read, width, 3), Conv(width, width, 3), nn.Conv2d(width, written, 1))

    for branch in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):
        if getattr(head, branch, None) is not None:
            setattr(head, branch, nn.ModuleList(sequence(old, branch) for old in getattr(head, branch)))


# --- forms ----------------------------------------------------------------------------------------


def ultralytics(yolo, path, size, **flags):
    """What `yolo export format=onnx` writes."""
    folder = Path(tempfile.mkdtemp())
    yolo.model.pt_path = str(folder / "model.pt")
    if flags.pop("half", False):
        # Spelt differently over the releases.
        flags["quantize" if "quantize" in exporter_keys() else "half"] = 16 if "quantize" in exporter_keys() else True
    try:
        yolo.export(format="onnx", imgsz=list(size), verbose=False, **flags)
    except AssertionError as error:
        # It is written by then: the exporter takes a small file for a corrupt one.
        if "too small" not in str(error):
            raise
    shutil.move(folder / "model.onnx", path)


def exporter_keys():
    from ultralytics.cfg import DEFAULT_CFG_DICT

    return DEFAULT_CFG_DICT


def by_hand(yolo, path, size, export=True, fuse=False, **options):
    """What somebody writes who calls `torch.onnx.export` on the network."""
    model = yolo.model.eval()
    if fuse:
        model = model.fuse(verbose=False)
    head = model.model[-1]
    if hasattr(head, "export"):
        head.export, head.format = export, "onnx"
    image = torch.zeros(1, 3, *size)
    with torch.no_grad():
        model(image)
    options.setdefault("dynamo", False)
    options.setdefault("opset_version", 18 if options["dynamo"] else 17)
    torch.onnx.export(model, (image,), str(path), **options)


def one_map(yolo, path, size):
    """The network with both branches of a level in one map, as releases before 8.3 wrote it."""
    model = yolo.model.eval().fuse(verbose=False)
    head, (height, width) = model.model[-1], size

    def forward(features):
        maps = [torch.cat((head.cv2[i](x), head.cv3[i](x)), 1) for i, x in enumerate(features)]
        boxes, scores = torch.cat([m.flatten(2) for m in maps], 2).split((4 * head.reg_max, head.nc), 1)
        cells, strides = [], []
        for stride in map(int, head.stride):
            rows, columns = torch.meshgrid(
                torch.arange(height // stride) + 0.5, torch.arange(width // stride) + 0.5, indexing="ij"
            )
            cells.append(torch.stack((columns, rows)).flatten(1))
            strides.append(torch.full((cells[-1].shape[1],), float(stride)))
        cells, strides = torch.cat(cells, 1), torch.cat(strides)
        near, far = head.dfl(boxes).chunk(2, 1)
        low, high = cells - near, cells + far
        return torch.cat((torch.cat(((low + high) / 2, high - low), 1) * strides, scores.sigmoid()), 1)

    head.forward = forward
    torch.onnx.export(model, (torch.zeros(1, 3, *size),), str(path), dynamo=False, opset_version=17)


def raw_maps(yolo, path, size):
    """The network without decoding: its outputs are the raw maps, as exports for NPUs have them."""
    model = yolo.model.eval().fuse(verbose=False)
    head = model.model[-1]

    class Maps(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model
            head.forward = lambda x: [
                out for i in range(head.nl) for out in (head.cv2[i](x[i]), torch.sigmoid(head.cv3[i](x[i])))
            ]

        def forward(self, x):
            return tuple(self.inner(x))

    torch.onnx.export(Maps(), (torch.zeros(1, 3, *size),), str(path), dynamo=False, opset_version=17)


def optimised(level):
    """The file as ONNX Runtime saves it at an optimisation level."""

    def rewrite(path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
        other = path.with_suffix(".optimised")
        options.optimized_model_filepath = str(other)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        other.rename(path)

    return rewrite


def simplified(path):
    import onnxsim

    model, fine = onnxsim.simplify(onnx.load(path))
    assert fine
    onnx.save(model, path)


def slimmed(path):
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(path)), path)


def quantised(path):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(path), str(path), weight_type=QuantType.QUInt8)


def without_metadata(path):
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)


def without_names(path):
    """Every value and constant gets a number for a name, as some converters give."""
    model = onnx.load(path)
    graph, new = model.graph, {"": ""}
    kept = {value.name for value in [*graph.input, *graph.output]}

    def name(old):
        return old if old in kept else new.setdefault(old, str(len(new)))

    for tensor in graph.initializer:
        tensor.name = name(tensor.name)
    for node in graph.node:
        node.name = ""
        node.input[:] = [name(value) for value in node.input]
        node.output[:] = [name(value) for value in node.output]
    del graph.value_info[:], model.metadata_props[:]
    onnx.save(model, path)


def with_external_data(path):
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=path.name + ".data",
        size_threshold=0,
    )


def with_shared_constants(path):
    """Equal constants are merged, and read through `Identity` as well."""
    model = onnx.load(path)
    graph = model.graph
    convs = [node for node in graph.node if node.op_type == "Conv"]
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    # The last two levels get the same kernels, so that there is something to merge.
    shape = lambda node: tuple(tensors[node.input[1]].dims)
    for one, other in zip(convs, convs[1:]):
        if "/cv2.1/" in one.name:
            twin = next((c for c in convs if c.name == one.name.replace("cv2.1", "cv2.2") and shape(c) == shape(one)), None)
            if twin is not None:
                twin.input[1:] = one.input[1:]
    for index, node in enumerate(convs):
        if "/cv3." in node.name and len(node.input) > 2:
            alias = helper.make_node("Identity", [node.input[2]], [f"alias_{index}"])
            graph.node.insert(0, alias)
            node.input[2] = f"alias_{index}"
    read = {value for node in graph.node for value in node.input}
    for tensor in [t for t in graph.initializer if t.name not in read]:
        graph.initializer.remove(tensor)
    onnx.save(model, path)


def anchor_based(path):
    """The decoding of YOLOv5's first head: three anchors per cell, objectness, no distances."""
    rng = torch.Generator().manual_seed(5)
    nodes, constants = [], []

    def constant(name, *dims):
        constants.append(numpy_helper.from_array(torch.randn(*dims, generator=rng).numpy() * 0.3, name))
        return name

    def conv(read, written, channels, out, stride, k=3):
        kernel = constant(f"{written}.w", out, channels, k, k)
        pads = [k // 2] * 4
        nodes.append(helper.make_node("Conv", [read, kernel], [written], strides=[stride] * 2, pads=pads))
        return written

    value, rows = "images", []
    for level in range(1, 6):
        value = conv(value, f"c{level}", 3 if level == 1 else 4, 4, 2)
        nodes.append(helper.make_node("Relu", [value], [value + "r"]))
        value += "r"
        if level >= 3:
            raw = conv(value, f"raw{level}", 4, 3 * 7, 1, 1)
            constants.append(numpy_helper.from_array(torch.tensor([1, 3, 7, -1]).numpy(), f"s{level}"))
            nodes.append(helper.make_node("Reshape", [raw, f"s{level}"], [f"x{level}"]))
            nodes.append(helper.make_node("Transpose", [f"x{level}"], [f"t{level}"], perm=[0, 1, 3, 2]))
            nodes.append(helper.make_node("Sigmoid", [f"t{level}"], [f"p{level}"]))
            constants.append(numpy_helper.from_array(torch.tensor([1, -1, 7]).numpy(), f"r{level}"))
            nodes.append(helper.make_node("Reshape", [f"p{level}", f"r{level}"], [f"o{level}"]))
            rows.append(f"o{level}")
    nodes.append(helper.make_node("Concat", rows, ["output"], axis=1))
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 252, 7])
    graph = helper.make_graph(nodes, "yolov5", [picture], [output], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


# --- the list -------------------------------------------------------------------------------------


class Case:
    """One file: a network, how it is written, what is done to the file, what graftd should say."""

    def __init__(self, description, form=ultralytics, after=(), size=(160, 160), classes=3, reject=None, **flags):
        self.description, self.form, self.after = description, form, after
        self.size, self.classes, self.reject, self.flags = size, classes, reject, flags


def full_size():
    """The families as they are, one row per file; then every form of one of them."""
    families = {
        "yolov3-tiny": "yolov3-tiny.yaml", "yolov5nu": "yolov5n.yaml", "yolov5n6u": "yolov5n-p6.yaml",
        "yolov6n": "yolov6n.yaml", "yolov8n": "yolov8n.yaml", "yolov8s": "yolov8s.yaml", "yolov8x": "yolov8x.yaml",
        "yolov8n-p2": "yolov8n-p2.yaml", "yolov8n-p6": "yolov8n-p6.yaml", "yolov8n-ghost": "yolov8n-ghost.yaml",
        "yolov9t": "yolov9t.yaml", "yolov9c": "yolov9c.yaml", "yolov9e": "yolov9e.yaml",
        "yolov10n": "yolov10n.yaml", "yolov10b": "yolov10b.yaml", "yolov10x": "yolov10x.yaml",
        "yolo11n": "yolo11n.yaml", "yolo11m": "yolo11m.yaml", "yolo11x": "yolo11x.yaml",
        "yolo12n": "yolo12n.yaml", "yolo12l": "yolo12l.yaml",
        "yolo26n": "yolo26n.yaml", "yolo26m": "yolo26m.yaml", "yolo26n-p2": "yolo26n-p2.yaml", "yolo26n-p6": "yolo26n-p6.yaml",
    }  # fmt: skip
    cases = {}
    for name, yaml in families.items():
        # Their coarsest level needs an input that 64 divides.
        size = (192, 192) if "p6" in name or "n6" in name else (160, 160)
        cases[name] = Case(yaml, size=size)
        if "v10" in name or "26" in name:
            cases[name + "-e2e"] = Case(yaml, size=size, nms=False)
    one = "yolo11n.yaml"
    for opset in range(12, 23):
        cases[f"yolo11n-opset{opset}"] = Case(one, opset=opset)
    both = {"yolo11n": one, "yolov8n": "yolov8n.yaml", "yolov10n": "yolov10n.yaml", "yolo12n": "yolo12n.yaml", "yolo26n": "yolo26n.yaml"}
    for name, yaml in both.items():
        cases[f"{name}-dynamic"] = Case(yaml, dynamic=True)
        cases[f"{name}-nosimplify"] = Case(yaml, simplify=False)
        cases[f"{name}-fp16"] = Case(yaml, half=True)
        cases[f"{name}-nms"] = Case(yaml, nms=True)
        cases[f"{name}-hand"] = Case(yaml, by_hand, export=False)
        cases[f"{name}-hand-fused"] = Case(yaml, by_hand, fuse=True)
        cases[f"{name}-dynamo"] = Case(yaml, by_hand, dynamo=True)
        cases[f"{name}-dynamo-fused"] = Case(yaml, by_hand, dynamo=True, fuse=True)
        cases[f"{name}-onnxsim"] = Case(yaml, after=[simplified], simplify=False)
        cases[f"{name}-hand-onnxslim"] = Case(yaml, by_hand, after=[slimmed])
        cases[f"{name}-ort-basic"] = Case(yaml, after=[optimised("BASIC")])
        cases[f"{name}-nameless"] = Case(yaml, after=[without_names])
    cases |= {
        "yolov10n-e2e-dynamic": Case("yolov10n.yaml", nms=False, dynamic=True),
        "yolo26n-e2e-dynamic": Case("yolo26n.yaml", nms=False, dynamic=True),
        "yolo26n-e2e-fp16": Case("yolo26n.yaml", nms=False, half=True),
        "yolo26n-e2e-nameless": Case("yolo26n.yaml", after=[without_names], nms=False),
        "yolo11n-batch4": Case(one, batch=4),
        "yolo11n-dynamic-batch4": Case(one, dynamic=True, batch=4),
        "yolo11n-96x160": Case(one, size=(96, 160)),
        "yolo11n-nc1": Case(one, classes=1),
        "yolo11n-nc4": Case(one, classes=4),
        "yolo11n-nc64": Case(one, classes=64),
        "yolo11n-nc365": Case(one, classes=365),
        "yolo11n-external": Case(one, after=[with_external_data]),
        "yolo11n-no-metadata": Case(one, after=[without_metadata]),
        "yolov8n-p6-no-metadata": Case("yolov8n-p6.yaml", after=[without_metadata], size=(192, 192)),
        "yolov8n-shared": Case("yolov8n.yaml", after=[with_shared_constants]),
        "yolov8n-one-map": Case("yolov8n.yaml", one_map, after=[without_names]),
        "yolov8n-raw-maps": Case("yolov8n.yaml", raw_maps),
        "yolo11n-ort-extended": Case(one, after=[optimised("EXTENDED")], reject="optimis"),
        "yolo11n-ort-all": Case(one, after=[optimised("ALL")], reject="optimis"),
        "yolo11n-int8": Case(one, after=[quantised], reject="quanti"),
        "yolo11n-seg": Case("yolo11n-seg.yaml", reject="segment"),
        "yolo11n-pose": Case("yolo11n-pose.yaml", reject="pose"),
        "yolo11n-obb": Case("yolo11n-obb.yaml", reject="obb"),
        "yolo11n-cls": Case("yolo11n-cls.yaml", reject="classify"),
        "yolo11n-seg-nameless": Case("yolo11n-seg.yaml", after=[without_names], reject="branch"),
        "yolo11n-pose-nameless": Case("yolo11n-pose.yaml", after=[without_names], reject="branch"),
        "yolo11n-obb-nameless": Case("yolo11n-obb.yaml", after=[without_names], reject="branch"),
        "yolo11n-cls-nameless": Case("yolo11n-cls.yaml", after=[without_names], reject="classif"),
        "rtdetr": Case("rtdetr-resnet50.yaml", reject="transformer"),
        "yolov5-anchors": Case(None, anchor_based, reject="anchor"),
    }
    return cases


def tiny():
    """What the tests ship."""
    plain, one_to_one = tiny_description(), tiny_description(reg_max=1, end2end=True)
    size = {"size": (64, 64), "classes": 2}
    return {
        "tiny-hand": Case(plain, by_hand, export=False, **size),
        "tiny-dynamo": Case(plain, by_hand, dynamo=True, **size),
        "tiny-onnxsim": Case(plain, after=[simplified], simplify=False, **size),
        "tiny-onnxslim": Case(plain, by_hand, after=[slimmed], **size),
        "tiny-ort-basic": Case(plain, by_hand, after=[optimised("BASIC")], **size),
        "tiny-ort-extended": Case(plain, after=[optimised("EXTENDED")], reject="optimis", **size),
        "tiny-ort-all": Case(plain, after=[optimised("ALL")], reject="optimis", **size),
        "tiny-int8": Case(plain, after=[quantised], reject="quanti", **size),
        "tiny-nameless": Case(plain, after=[without_names], **size),
        "tiny-no-metadata": Case(plain, after=[without_metadata], **size),
        "tiny-external": Case(plain, after=[with_external_data], **size),
        "tiny-shared": Case(plain, after=[with_shared_constants], **size),
        "tiny-raw-maps": Case(plain, raw_maps, **size),
        "tiny-one-map": Case(plain, one_map, after=[without_names], **size),
        "tiny-opset12": Case(plain, opset=12, **size),
        "tiny-opset22": Case(plain, opset=22, **size),
        "tiny-64x96": Case(plain, size=(64, 96), classes=2),
        "tiny-nc4": Case(tiny_description(reg_max=1), size=(64, 64), classes=4, after=[without_names]),
        "tiny-p2": Case(tiny_description(levels=(2, 3, 4, 5)), after=[without_metadata], **size),
        "tiny-p6": Case(tiny_description(levels=(3, 4, 5, 6)), size=(128, 128), classes=2),
        "tiny-two-heads": Case(one_to_one, by_hand, export=False, **size),
        "tiny-e2e-nameless": Case(one_to_one, after=[without_names], nms=False, **size),
        "tiny-e2e-dynamic": Case(one_to_one, nms=False, dynamic=True, **size),
        "tiny-nms": Case(plain, nms=True, **size),
        "tiny-seg-nameless": Case(tiny_description(head="Segment"), after=[without_names], reject="branch", **size),
        "tiny-anchors": Case(None, anchor_based, reject="anchor", **size),
    }


def expected(yolo, case, name):
    """What graftd should find."""
    if case.reject:
        return {"reject": case.reject}
    head = yolo.model.model[-1]
    end2end = case.flags.get("nms") is False
    if case.form is by_hand:
        end2end = bool(getattr(head, "end2end", False))
    return {
        "classes": head.nc,
        "reg_max": head.reg_max,
        "strides": [int(stride) for stride in head.stride],
        "one_to_one": end2end,
        "size": list(case.size),
        "half": bool(case.flags.get("half")),
        "batch": None if case.flags.get("dynamic") else case.flags.get("batch", 1),
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path, nargs="?")
    arguments.add_argument("--tiny", action="store_true", help="the small ones that the tests ship")
    arguments.add_argument("--only", nargs="*", default=["*"], metavar="PATTERN", help="names, such as 'yolo26*'")
    arguments.add_argument("--list", action="store_true", help="say what there is, make nothing")
    arguments = arguments.parse_args()
    cases = tiny() if arguments.tiny else full_size()
    cases = {name: case for name, case in cases.items() if any(fnmatch.fnmatch(name, p) for p in arguments.only)}
    if arguments.list or arguments.folder is None:
        print("\n".join(cases))
        return 0
    import ultralytics as package

    warnings.simplefilter("ignore")

    arguments.folder.mkdir(parents=True, exist_ok=True)
    index_path = arguments.folder / "exports.json"
    index = json.loads(index_path.read_text()) if index_path.exists() else {"files": {}}
    versions = {"ultralytics": package.__version__, "torch": torch.__version__.split("+")[0], "onnx": onnx.__version__}
    index["versions"], failed = versions, []
    for number, (name, case) in enumerate(cases.items(), 1):
        path = arguments.folder / f"{name}.onnx"
        print(f"exports: {number} of {len(cases)}: {name}", file=sys.stderr, flush=True)
        try:
            # The exporters are talkative.
            with contextlib.redirect_stdout(io.StringIO()):
                yolo = None
                if case.description is None:
                    case.form(path)
                else:
                    seed = math.prod(map(ord, name)) % 2**31
                    yolo = network(case.description, case.classes, seed, arguments.tiny)
                    found = expected(yolo, case, name)
                    case.form(yolo, path, case.size, **case.flags)
                for rewrite in case.after:
                    rewrite(path)
            index["files"][path.name] = {"reject": case.reject} if yolo is None else found
        except Exception as error:
            failed.append(name)
            path.unlink(missing_ok=True)
            index["files"].pop(path.name, None)
            print(f"exports: {name} was not made: {type(error).__name__}: {error}", file=sys.stderr)
            if os.environ.get("EXPORTS_DEBUG"):
                traceback.print_exc()
        index_path.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    if failed:
        print(f"exports: {len(failed)} of {len(cases)} were not made: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
