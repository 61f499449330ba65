#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# mmdebstrap's first hook: $1 is the new tool root, empty but for apt's configuration. In: SUITE, BACKPORTS.
set -eu
list=$1/etc/apt/sources.list

# The backports come from the same mirror as the suite.
sed -n "s/ $SUITE main\$/ $BACKPORTS main/p" "$list" >"$list.backports"
cat "$list.backports" >>"$list"
rm "$list.backports"
grep -q " $BACKPORTS main" "$list" || {
	echo "LAB: cannot find the mirror of $SUITE in apt's list"
	exit 1
}

# rustc and its parts stay with the suite: it has exactly the compiler that built the kernel. All else comes from
# the backports where they have it, because QEMU and its dependencies must match.
mkdir -p "$1/etc/apt/preferences.d"
cat >"$1/etc/apt/preferences.d/lab" <<EOF
Package: src:rustc
Pin: release n=$SUITE
Pin-Priority: 1001
EOF
