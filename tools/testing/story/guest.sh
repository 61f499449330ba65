#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The story of `make run`, as it happens inside the VMs: guest.sh first|second|other|inside. /mnt/share is the story's directory,
# /mnt/share/psp the emulated chip's, /mnt/share/other that of the other host's.
set -eu

here=$(dirname "$0")
psp=/mnt/share/psp
cd /mnt/share

say() { printf '\n== %s\n' "$*"; }
field() { printf '   %-22s %s\n' "$1" "$2"; }

# Runs a command and keeps what it prints in a file; shows it if the command fails.
quietly() {
	log=$1
	shift
	"$@" >"$log" 2>&1 || {
		cat "$log"
		return 1
	}
}

# Shows `sevctl`'s tree of who signed whom, with shortened key ids and without colours; fails if a signature is bad.
verify() {
	python3 "$here/export-chain.py" "$psp/certs/cek.cert" "$1"
	quietly verify.log sevctl verify --sev "$1" --ca "$psp/certs/ask_ark.cert"
	sed -n -e 's/\x1b\[[0-9;]*m//g' -e 's/\([0-9a-f]\{16\}\)[0-9a-f]\{16,\}/\1.../' -e '/ = /d' -e '/./s/^/   /p' verify.log
	field "sevctl verify" "every signature is good"
}

owned() { sevctl show flags | grep -q owned && echo yes || echo "no (self-owned)"; }

platform() {
	field "SEV API, build" "$(dmesg | sed -n 's/.*SEV API:\([0-9.]*\) build:\([0-9]*\).*/\1, build \2/p' | tail -n 1)"
	field "sevctl show version" "$(sevctl show version)"
	field "sevctl show guests" "$(sevctl show guests)"
	field "sevctl show flags" "$(sevctl show flags | tr '\n' ' ')(es: SEV-ES is initialised)"
	field "sevctl show identifier" "$(sevctl show identifier | cut -c1-32)..."
	field "owned by somebody" "$(owned)"
}

case $1 in
first)
	say "A kernel nobody touched, a driver written in Rust"
	field "kernel" "$(uname -rv)"
	field "module file" "$(modinfo -F filename ccp)"
	field "description" "$(modinfo -F description ccp)"
	field "used by" "$(sed -n 's/^ccp \([0-9]*\) [0-9]* \([^ ]*\) .*/\2/p' /proc/modules)"
	field "PSP" "$(dmesg | sed -n 's/.*\(ccp 0000:[^ ]*\): psp enabled.*/\1/p') ($(cat /sys/bus/pci/drivers/ccp/0000:*/device))"
	say "sevctl talks to it through /dev/sev"
	platform
	say "Its keys, from the PDH up to AMD's root (here: the emulator's); the arrow says: signs the one above"
	verify chain-1
	say "Somebody takes ownership: sevctl generate, sevctl provision"
	sevctl generate oca.cert oca.key
	sevctl provision oca.cert oca.key
	field "owned by somebody" "$(owned)"
	verify chain-2
	;;
second)
	say "After a reboot, the same chip"
	field "owned by somebody" "$(owned)"
	verify chain-3
	if cmp -s chain-2 chain-3; then
		field "certificates" "the same as before the reboot"
	else
		echo "The certificates changed over the reboot." >&2
		exit 1
	fi
	say "A guest with encrypted memory; its owner trusts AMD's keys, and not this host"
	sev-launch launch --certs $psp/certs
	say "The same with sevctl as the owner's tool, and with encrypted registers (SEV-ES)"
	quietly launch.log sev-launch launch --certs $psp/certs --owner sevctl --policy 7
	grep -E 'sevctl|UPDATE_VMSA|FINISH' launch.log
	say "The host changes one bit of the image"
	if sev-launch launch --certs $psp/certs --cheat image >launch.log 2>&1; then
		echo "Nobody noticed." >&2
		exit 1
	fi
	sed -n 's/^sev-launch: /   /p' launch.log
	say "A guest moves to another host; its policy demands a platform of AMD's, and allows debugging"
	quietly send.log sev-launch send --certs $psp/certs --policy 0x20 --exchange exchange --patience 300
	sed -n -e '/opens a session/p' -e '/encrypts the disk key/p' -e '/SEND_START/,$p' send.log
	;;
other)
	say "The other host: another VM, another chip"
	field "sevctl show identifier" "$(sevctl show identifier | cut -c1-32)..."
	sev-launch receive --certs other/certs --exchange exchange --patience 300
	;;
inside)
	# This VM is a SEV guest itself; its host answers on /dev/lab-host.
	sysfs=/sys/kernel/sev_guest
	say "Inside a SEV guest: what protects it, and what its host sees"
	field "protection" "$(cat $sysfs/protection), C-bit $(cat $sysfs/c_bit)"
	field "64 secrets in memory" "the host finds: $(python3 "$here/markers.py" | sed -n 's/^shared \([0-9]*\) private.*/\1/p')"
	say "A driver in Rust shares one page with the host"
	modprobe sev_shared_pages_sample
	address=$(dmesg | sed -n 's/.*a note for the host is at //p')
	field "pages shared" "$(cat $sysfs/shared_pages): the note at $address, two for messages to the PSP"
	exec 9<>/dev/lab-host
	echo "device-read $address 47" >&9
	read -r note <&9
	field "the host reads there" "$(python3 -c "print(bytes.fromhex('$note').decode())")"
	rmmod sev_shared_pages_sample
	field "after rmmod" "$(cat $sysfs/shared_pages) pages shared, $(cat $sysfs/leaked_pages) leaked"
	say "It proves what it is: a report of the (emulated) PSP, for snpguest"
	cd /tmp
	head -c 64 /dev/urandom >data
	quietly report.log snpguest report report data --vmpl 0
	quietly certs.log snpguest certificates pem certs
	quietly chain.log snpguest verify certs certs
	sed 's/^/   /' chain.log
	quietly verified.log snpguest verify attestation certs report --processor-model milan
	sed -n '/signed the Attestation/s/^/   /p' verified.log
	;;
*)
	echo "usage: $0 first|second|other|inside" >&2
	exit 2
	;;
esac
