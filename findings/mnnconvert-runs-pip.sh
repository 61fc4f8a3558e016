#!/usr/bin/env bash
# MNN 3.6.1: asking the converter for its version runs `pip install -U` of an unpinned package, with whichever pip comes first.
#
# `mnnconvert --version` is run in a virtual environment, with a file named pip first on PATH that only notes how it
# was called. The real one would install; here the package is missing afterwards too, so nothing is reported.
#
# Output seen (CPython 3.11.7, x86-64):
#     mnn 3.6.1
#     pip was called: install -U aliyun-log-python-sdk
#     pip was called: install -U aliyun-log-python-sdk
#
# Why it surprises: a converter that was asked for its version installs software. Importing MNN.tools.mnnconvert imports
# MNN.tools.utils.log, which on a missing `aliyun.log` calls os.system("pip install -U aliyun-log-python-sdk"). The wheel
# declares no such dependency. What is installed is neither pinned nor bound to the interpreter that runs: called by its path,
# without an activated environment, mnnconvert fills the system's site-packages (eight packages, protobuf among them),
# still fails to import it, and goes on, so that every run calls pip again. Where the package can be imported, the module
# (as its source says; not tried) asks an address in the cloud for credentials, and reports each conversion with
# /etc/machine-id.
# Calling `_tools.mnnconvert([...])`, the compiled part, converts without all that.
# No report was found among the issues searched.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check MNN==3.6.1 numpy==2.4.6
mkdir "$work/first"
cat >"$work/first/pip" <<SH
#!/bin/sh
echo "pip was called: \$*" >>"$work/calls"
SH
chmod +x "$work/first/pip"
"$work/venv/bin/python" -c 'import importlib.metadata; print("mnn", importlib.metadata.version("mnn"))'
PATH="$work/first:$PATH" "$work/venv/bin/mnnconvert" --version >"$work/printed" 2>&1 || true
touch "$work/calls"
cat "$work/calls"
if [ "$(sort -u "$work/calls")" != "pip was called: install -U aliyun-log-python-sdk" ]; then
  echo "the behaviour changed" >&2
  exit 1
fi
