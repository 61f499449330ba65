# SPDX-License-Identifier: GPL-2.0
# Every entry point. All set-up is done by tools/lab, which keeps what it makes in the cache (Documentation/lab.rst).
# The modules alone also build the classic way: make -C /path/to/kernel/tree M=$PWD

LAB := tools/lab

# make KDIR=/path/to/kernel/tree ... uses a kernel tree of your own, DEBIAN_MIRROR=URL another mirror.
export KDIR DEBIAN_MIRROR

.PHONY: help run test bench kunit modules check shell clean distclean lab-can-run
.DEFAULT_GOAL := help

help:
	@echo 'make run        both drivers on a stock Debian kernel, and guests with encrypted memory (10 minutes the first time)'
	@echo 'make test       every test (about an hour the first time); TESTS="lab kunit" for some of them'
	@echo 'make bench      what calls cost with our driver and with upstream'"'"'s, and DMA with the guest helper (50 minutes)'
	@echo 'make kunit      the KUnit suites alone, with their output'
	@echo 'make modules    build the kernel modules, print where they are'
	@echo 'make check      formatting, clippy and checkpatch'
	@echo 'make shell      a shell in a VM with the driver loaded'
	@echo 'make clean      remove what was built from this checkout'
	@echo 'make distclean  remove every cache of the project, tool root and kernels too'
	@echo
	@echo 'KDIR=DIR          use this kernel tree instead of the Debian kernel'
	@echo 'DEBIAN_MIRROR=URL take Debian from here instead of where the machine does'
	@echo
	@echo 'One command in a VM: tools/lab run -- COMMAND; tools/lab --help tells the rest.'

run: lab-can-run
	@tools/testing/story/run.sh

test: lab-can-run
	@$(LAB) test $(TESTS)

bench: lab-can-run
	@$(LAB) bench

kunit: lab-can-run
	@$(LAB) test kunit

check: lab-can-run
	@$(LAB) test style

modules: lab-can-run
	@$(LAB) modules

shell: lab-can-run
	@$(LAB) shell

clean distclean: lab-can-run
	@$(LAB) $@

# The lab is written in Python and installs everything else itself.
lab-can-run:
	@test -x /usr/bin/python3 || { \
		sudo=; test "$$(id -u)" = 0 || sudo=sudo; \
		echo 'lab: installing python3'; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends python3 >/dev/null; \
	} || { echo 'lab: python3 is missing and could not be installed; install it and try again' >&2; exit 1; }
