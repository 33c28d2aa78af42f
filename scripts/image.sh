#!/bin/sh
# Build an image of the service with what is live (`make image`), or one that runs the nights of a project (`make night-image`: scripts/image.sh night).
# Needs mmdebstrap and buildah (Debian and Ubuntu: apt install mmdebstrap buildah).
# IMAGE=name:tag names it; without, cd4ml_nb:<model version>, or cd4ml_nb_night:live.
set -eu
cd "$(dirname "$0")/.."
for tool in mmdebstrap buildah; do
    command -v "$tool" >/dev/null || { echo "make image needs $tool. Debian and Ubuntu: apt install mmdebstrap buildah" >&2; exit 1; }
done
context=dist/image what=${1:-service}
mkdir -p "$context" "$context/events"

# Debian's Python and what it needs, unpacked and never configured. It is made once; remove the file for Debian's newest.
if [ ! -f "$context/base.tar" ]; then
    echo "Fetching Debian's Python ..." >&2
    mmdebstrap --quiet --format=tar --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include=python3-minimal,libpython3-stdlib,base-files,libstdc++6 \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -rf "$1"/dev/*' bookworm "$context/base.tar.tmp"
    mv "$context/base.tar.tmp" "$context/base.tar"
fi
echo 'cd4ml:x:10001:10001::/tmp:/' > "$context/passwd"

# The library and the locked versions of what it needs with some extras, without what compiles or tests. Of one, PyPI has the source only.
bring() {
    rm -rf "$2"
    python scripts/pins.py $1 > "$context/pins.lock"
    uv pip install --quiet --target "$2" --python-version 3.11 --only-binary :all: --no-binary antlr4-python3-runtime --no-deps --require-hashes -r "$context/pins.lock"
    uv pip install --quiet --python .venv/bin/python --target "$2" --no-deps --no-build-isolation .
    find "$2" -depth \( -type d \( -name tests -o -name include -o -name __pycache__ -o -name bin \) -o -name '*.px[di]' -o -name '*.pyx' -o -name '*.[cha]' \) -exec rm -rf {} +
}

if [ "$what" = night ]; then
    bring "pipeline broker" "$context/night"
    image=${IMAGE:-cd4ml_nb_night:live}
    buildah bud --quiet --isolation chroot --format docker --file deploy/image/Containerfile.night --tag "$image" "$context"
    echo "$image is built. Try it with: podman run --read-only --tmpfs /tmp --volume PROJECT:/srv/project $image"
    exit
fi

cd4ml deploy live "$context/live"
bring serve "$context/site"
# Parts of big libraries that no forecast uses: 70 MB.
rm -f "$context"/site/pyarrow/*flight* "$context"/site/pyarrow/libarrow_python.so "$context"/site/pyarrow/libarrow_python.so.*.*.* \
    "$context"/site/onnxruntime/capi/libonnxruntime.so.*

image=${IMAGE:-cd4ml_nb:$(cd4ml release status --json | python -c "import json, sys; print(json.load(sys.stdin)['champion']['model_version'])")}
buildah bud --quiet --isolation chroot --format docker --file deploy/image/Containerfile --tag "$image" "$context"
echo "$image is built. Try it with: podman run --read-only --tmpfs /tmp --publish 127.0.0.1:8868:8868 --env CD4ML_TOKEN $image"
