#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0
# Process 1 of the guest: mounts the tool root, loads the drivers, runs COMMAND, reports its status.
#
# The lab puts beside it (initramfs.py): /modules (to be loaded first, in order), /drivers (modprobe arguments, a
# line each), /command (a shell command), /interactive (when COMMAND gets a terminal), /has-share (when there is a shared directory),
# /nv (the directory for the PSP's persistent data, and what it is like).
# Ports to the lab are virtio-serial ones, known by name. What is printed here goes to the console log.

export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

echo "LAB-INIT"

die() {
	echo "LAB-ERROR: $*"
	poweroff -f
}

while read -r module; do
	insmod "/boot/$module" || die "cannot load $module"
done </modules

# The tool root, read-only from the lab, with a tmpfs to catch what is written.
options=trans=virtio,version=9p2000.L,msize=524288
mkdir -p /lower /upper /root
mount -t 9p -o "ro,cache=loose,$options" root /lower || die "cannot mount the tool root"
mount -t tmpfs tmpfs /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root || die "cannot mount an overlay"

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t debugfs debugfs /root/sys/kernel/debug
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t tmpfs -o mode=1777 tmpfs /root/tmp
mount -t tmpfs -o mode=755 tmpfs /root/run
for link in fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
	ln -sf "${link#*:}" "/root/dev/${link%%:*}"
done
if [ -e /has-share ]; then
	mkdir -p /root/mnt/share
	# readahead: reads are cached, writes go through, so nothing is lost when the VM ends.
	mount -t 9p -o "cache=readahead,$options" share /root/mnt/share || die "cannot mount the shared directory"
fi
# shellcheck disable=SC2046 # a path and a word
set -- $(cat /nv)
mkdir -p "/root$1"
case $2 in
full)
	mount -t tmpfs -o size=4k tmpfs "/root$1"
	cat /bin/busybox >"/root$1/filler" 2>/dev/null
	;;
read-only)
	mount -t tmpfs -o ro tmpfs "/root$1"
	;;
esac
hostname lab
ip link set lo up

# Ports appear some time after their device, one after the other.
wait_for_ports() {
	last="grep -qx lab.stderr /sys/class/virtio-ports/*/name"
	[ -e /interactive ] && last="[ -c /dev/hvc0 ]"
	tries=200
	until $last 2>/dev/null; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || die "there are no virtio-serial ports"
		usleep 50000
	done
}

port() {
	grep -lx "$1" /sys/class/virtio-ports/*/name | sed 's|.*/\(vport[^/]*\)/name|/dev/\1|'
}

wait_for_ports
host=$(port lab.host)
[ -z "$host" ] || ln -s "${host#/dev/}" /dev/lab-host
exec 3<>"$(port lab.control)"
# The lab may have to do something to the VM (seal its memory) before anything of interest runs.
echo booted >&3
read -r _ <&3
while read -r driver; do
	# shellcheck disable=SC2086 # a module and its parameters
	chroot /root modprobe $driver || echo "warning modprobe $driver failed" >&3
done </drivers

session=
in_root() {
	exec 3>&-
	cd /
	# shellcheck disable=SC2086 # nothing, or a command and its option
	exec $session chroot /root /usr/bin/env -i HOME=/root USER=root TERM="$TERM" LC_ALL=C.UTF-8 \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		sh -c "cd; $(cat /command)"
}

# COMMAND's own descriptors are pipes: a virtio port cannot be opened twice, /dev/stdout could not be used.
in_pipes() {
	mkfifo /stdin.pipe /stdout.pipe /stderr.pipe
	cat </stdout.pipe >"$(port lab.stdout)" &
	stdout=$!
	cat </stderr.pipe >"$(port lab.stderr)" &
	stderr=$!
	input=/dev/null
	if [ -e /stdin ]; then
		cat "$(port lab.stdin)" >/stdin.pipe &
		input=/stdin.pipe
	fi
	(in_root <$input >/stdout.pipe 2>/stderr.pipe)
	status=$?
	# Daemons COMMAND left behind may hold the pipes; what is in them by now comes through anyway.
	tries=40
	while [ $tries -gt 0 ] && kill -0 $stdout $stderr 2>/dev/null; do
		usleep 50000
		tries=$((tries - 1))
	done
	return $status
}

on_terminal() {
	# shellcheck disable=SC2046 # two numbers
	set -- $(cat /interactive)
	export TERM="$1"
	stty -F /dev/hvc0 rows "$2" cols "$3"
	# A session of its own with the terminal in control: Ctrl-C and job control work.
	session="setsid -c"
	(in_root 0<>/dev/hvc0 1>&0 2>&0)
}

echo ready >&3
if [ -e /interactive ]; then
	on_terminal
else
	in_pipes
fi
echo "status $?" >&3
sleep 60
poweroff -f
