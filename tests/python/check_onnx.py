"""Runs onnx.checker over every .onnx of a folder; exits 1 with the reasons when one is refused."""

import pathlib
import sys

import onnx

files = sorted(pathlib.Path(sys.argv[1]).glob("*.onnx"))
refused = 0
for path in files:
    try:
        onnx.checker.check_model(onnx.load(path), full_check=True)
        domains = {opset.domain for opset in onnx.load(path).opset_import}
        if domains - {"", "ai.onnx"}:
            raise ValueError(f"operators of {domains}")
    except Exception as error:
        refused += 1
        print(f"{path.name}: {error}")
print(f"{len(files)} files, {refused} refused")
sys.exit(1 if refused or not files else 0)
