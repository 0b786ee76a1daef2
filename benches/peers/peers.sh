#!/usr/bin/env bash
# Sets up what the comparison needs (idempotent), then runs it.
#   benches/peers/peers.sh runs|cost [options of peers.py]
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/setup.sh demo
scripts/fetch-onnxruntime.sh
wanted=benches/peers/requirements.txt
stamp=.venv-peers/.requirements
if ! { [ -x .venv-peers/bin/python ] && cmp -s "$wanted" "$stamp"; }; then
    echo "peers: making .venv-peers with the packages of $wanted (PyTorch among them: some gigabytes)"
    rm -rf .venv-peers
    python3 -m venv .venv-peers
    .venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r "$wanted"
    # Ultralytics asks for the OpenCV that opens windows, which wants libraries of a desktop. The one without takes its place.
    opencv=$(.venv-peers/bin/python -c 'import importlib.metadata; print(importlib.metadata.version("opencv-python"))')
    .venv-peers/bin/python -m pip uninstall --quiet --yes opencv-python
    .venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "opencv-python-headless==$opencv"
    cp "$wanted" "$stamp"
fi
case " $* " in
    *" --graftd "*) ;;
    *) cargo build --release ;;
esac
exec .venv-peers/bin/python benches/peers/peers.py "$@"
