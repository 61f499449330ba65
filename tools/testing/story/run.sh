#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# `make run`: the emulated PSP, our driver on the stock Debian kernel, and sevctl, over two boots of one VM.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
lab=$here/../../lab
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir "$dir/psp"
cp "$here/guest.sh" "$here/export-chain.py" "$dir"
for boot in first second; do
	"$lab" run --role host --driver rust --state "$dir/psp" --share "$dir" -- /mnt/share/guest.sh $boot
done

cat <<'EOF'

Try next:
   tools/lab shell --role host        look around in that VM yourself (dmesg, sevctl, /dev/sev)
   make test                          prove that it does what upstream's driver does
EOF
