#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# mmdebstrap's last hook: $1 is the new tool root. Installs the kernel's packages and unpacks its source.
# In: LINUX_SERIES, LINUX_VERSION, LINUX_RELEASE (see versions). Out: /etc/lab-linux, the kernel's release.
set -eu
root=$1

# Does the archive still have the pinned version?
has_pinned() {
	chroot "$root" apt-cache show "linux-headers-$LINUX_RELEASE=$LINUX_VERSION" >/dev/null 2>&1
}

newest_release() {
	chroot "$root" apt-cache pkgnames "linux-headers-$LINUX_SERIES." |
		sed -n "s/^linux-headers-\($LINUX_SERIES\.[0-9]*+deb[0-9]*-amd64\)\$/\1/p" | sort -V | tail -n 1
}

if has_pinned; then
	release=$LINUX_RELEASE
	version==$LINUX_VERSION
else
	release=$(newest_release)
	version=
	if [ -z "$release" ]; then
		echo "LAB: the archive has no Linux $LINUX_SERIES any more; use a kernel tree of your own: KDIR=/path/to/linux"
		exit 1
	fi
	echo "LAB: Linux $LINUX_VERSION has left the archive; taking $release"
fi

# The kernel's own image package would build an initramfs; these two are all it consists of.
chroot "$root" apt-get install -y --no-install-recommends "linux-binary-$release$version" "linux-modules-$release$version" \
	"linux-headers-$release$version" "linux-source-$LINUX_SERIES$version"

echo "unpacking the kernel's source"
chroot "$root" sh -eu -c '
cd /usr/src
tar -x -I "xz -T0" -f "$1.tar.xz" --exclude="*/arch/*/boot/dts" --exclude="*/drivers/gpu/drm/amd/include"
rm "$1.tar.xz"' sh "linux-source-$LINUX_SERIES"

echo "$release" >"$root/etc/lab-linux"
