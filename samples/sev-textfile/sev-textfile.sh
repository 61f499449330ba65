#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What protects this VM and what it shares with its host, as metrics for Prometheus: a textfile collector
# for node_exporter.
#
#	sev-textfile.sh            prints them
#	sev-textfile.sh FILE.prom  puts them into a file, which changes in one step
#
# Alert on sev_guest_leaked_pages > 0, on sev_guest_failed_flips_total, and on a VM whose
# sev_guest_active{technology="sev_snp"} is not what you ordered.

set -eu

directory=${SEV_GUEST_SYSFS:-/sys/kernel/sev_guest}

value() {
	cat "$directory/$1"
}

# A metric without labels: its name, its type, the file that has its value, what it is.
metric() {
	echo "# HELP $1 $4"
	echo "# TYPE $1 $2"
	echo "$1 $(value "$3")"
}

metrics() {
	echo '# HELP sev_guest_module_loaded Whether virtio_sev_shim is there to ask.'
	echo '# TYPE sev_guest_module_loaded gauge'
	if [ ! -d "$directory" ]; then
		echo 'sev_guest_module_loaded 0'
		return
	fi
	echo 'sev_guest_module_loaded 1'

	echo '# HELP sev_guest_info What protects this VM.'
	echo '# TYPE sev_guest_info gauge'
	printf 'sev_guest_info{protection="%s",sev_status="%s",c_bit="%s",guest_requests="%s"} 1\n' \
		"$(value protection)" "$(value sev_status)" "$(value c_bit)" "$(value guest_requests)"

	echo '# HELP sev_guest_active Whether a technology is in use.'
	echo '# TYPE sev_guest_active gauge'
	for technology in sev sev_es sev_snp; do
		echo "sev_guest_active{technology=\"$technology\"} $(value $technology)"
	done

	echo '# HELP sev_guest_feature Whether a bit of SEV_STATUS is set.'
	echo '# TYPE sev_guest_feature gauge'
	for file in "$directory"/features/*; do
		feature=${file##*/}
		echo "sev_guest_feature{feature=\"$feature\"} $(value "features/$feature")"
	done

	if [ -e "$directory/vmpl" ]; then
		metric sev_guest_vmpl gauge vmpl 'Privilege level of this kernel, 0 is the highest.'
	fi
	metric sev_guest_shared_pages gauge shared_pages 'Pages of 4 KiB shared with the host by drivers.'
	metric sev_guest_shared_pages_max gauge shared_pages_max 'The most there ever were.'
	metric sev_guest_flips_total counter flips 'Blocks of pages made shared or private.'
	metric sev_guest_failed_flips_total counter failed_flips 'Those that failed.'
	metric sev_guest_leaked_pages gauge leaked_pages 'Pages lost because nobody knows their state.'
}

if [ $# -eq 0 ]; then
	metrics
else
	# In the same directory, or it could not take the other's name in one step.
	new=$(mktemp "$1.XXXXXX")
	trap 'rm -f "$new"' EXIT
	metrics >"$new"
	chmod 644 "$new"
	mv "$new" "$1"
fi
