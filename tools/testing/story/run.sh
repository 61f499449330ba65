#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# `make run`: emulated PSPs, our driver on the stock Debian kernel, sevctl, and guests with encrypted memory; two boots of
# one VM, another that a guest moves to, and one that is a SEV guest.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
lab=$here/../../lab
dir=$(mktemp -d)
other=
trap '[ -z "$other" ] || kill "$other" || :; wait; rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir "$dir/psp" "$dir/other" "$dir/exchange"
cp "$here/guest.sh" "$here/export-chain.py" "$here/../guest/markers.py" "$dir"
"$lab" run --role host --driver rust --state "$dir/psp" --share "$dir" -- /mnt/share/guest.sh first
# It is up by the time a guest comes.
"$lab" run --role host --driver rust --state "$dir/other" --share "$dir" -- /mnt/share/guest.sh other \
	>"$dir/other.log" 2>&1 </dev/null &
other=$!
"$lab" run --role host --driver rust --state "$dir/psp" --share "$dir" -- /mnt/share/guest.sh second
wait "$other" || {
	cat "$dir/other.log"
	exit 1
}
other=
cat "$dir/other.log"

sent=$(sed -n 's/.* encrypts the disk key *//p' "$dir/send.log")
received=$(sed -n 's/.* DBG_DECRYPT *//p' "$dir/other.log")
if [ "$sent" != "$received" ]; then
	echo "The disk key that arrived is not the one that was sent." >&2
	exit 1
fi

"$lab" run --role guest --module-param virtio_sev_shim.lab_transport=1 --share "$dir" -- /mnt/share/guest.sh inside

cat <<'EOF'

Try next:
   tools/lab shell --role host        look around in that VM yourself (dmesg, sevctl, sev-launch, /dev/sev)
   tools/lab shell --role guest       the same inside a SEV guest (/sys/kernel/sev_guest)
   make test                          prove that it does what upstream's driver does
EOF
