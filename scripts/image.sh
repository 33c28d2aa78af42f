#!/bin/sh
# Build an image of the service with what is live: `make image`. Needs mmdebstrap and buildah (Debian and Ubuntu: apt install mmdebstrap buildah).
# IMAGE=name:tag names it; without, cd4ml_nb:<model version>.
set -eu
cd "$(dirname "$0")/.."
for tool in mmdebstrap buildah; do
    command -v "$tool" >/dev/null || { echo "make image needs $tool. Debian and Ubuntu: apt install mmdebstrap buildah" >&2; exit 1; }
done
context=dist/image
mkdir -p "$context"
cd4ml deploy live "$context/live"

# Debian's Python and what it needs, unpacked and never configured. It is made once; remove the file for Debian's newest.
if [ ! -f "$context/base.tar" ]; then
    echo "Fetching Debian's Python ..." >&2
    mmdebstrap --quiet --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include=python3-minimal,libpython3-stdlib,base-files,libstdc++6 \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -rf "$1"/dev/*' bookworm "$context/base.tar.tmp"
    mv "$context/base.tar.tmp" "$context/base.tar"
fi
echo 'cd4ml:x:10001:10001::/tmp:/' > "$context/passwd"

rm -rf "$context/site"
python scripts/pins.py serve > "$context/pins.lock"
uv pip install --quiet --target "$context/site" --python-version 3.11 --only-binary :all: --no-deps --require-hashes -r "$context/pins.lock"
uv pip install --quiet --python .venv/bin/python --target "$context/site" --no-deps --no-build-isolation .
# Nobody compiles or tests in the image.
find "$context/site" -depth \( -type d \( -name tests -o -name include -o -name __pycache__ -o -name bin \) -o -name '*.px[di]' -o -name '*.pyx' -o -name '*.[cha]' \) -exec rm -rf {} +
# Parts of big libraries that no forecast uses: 70 MB.
rm -f "$context"/site/pyarrow/*flight* "$context"/site/pyarrow/libarrow_python.so "$context"/site/pyarrow/libarrow_python.so.*.*.* \
    "$context"/site/onnxruntime/capi/libonnxruntime.so.*

image=${IMAGE:-cd4ml_nb:$(cd4ml release status --json | python -c "import json, sys; print(json.load(sys.stdin)['champion']['model_version'])")}
buildah bud --quiet --isolation chroot --format docker --file deploy/image/Containerfile --tag "$image" "$context"
echo "$image is built. Try it with: podman run --read-only --tmpfs /tmp --publish 127.0.0.1:8868:8868 --env CD4ML_TOKEN $image"
