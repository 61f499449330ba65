# SPDX-License-Identifier: GPL-2.0
"""What a guest's disk and network do in a second; run inside: `dma_bench.py [--full] DISK [MTU]...`. Prints one JSON object.

DISK is a null disk, the network that of `tools/lab run --net pair`. See tools/testing/lab/dma_bench.py.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import tempfile

# How long a case lasts, after some time that does not count.
SECONDS = 2
RAMP_SECONDS = 1
NETWORK_SECONDS = 2

# What is done to the disk by default: how, block size, requests at once, jobs.
SELECTION = (
    ("read", "1m", 1, 1), ("write", "1m", 1, 1), ("read", "1m", 32, 1), ("write", "1m", 32, 1), ("read", "4m", 32, 1),
    ("write", "4m", 32, 1), ("read", "64k", 32, 1), ("write", "64k", 32, 1), ("randread", "4k", 1, 1), ("randwrite", "4k", 1, 1),
    ("randread", "4k", 32, 1), ("randwrite", "4k", 32, 1), ("read", "1m", 32, 4), ("write", "1m", 32, 4),
)
FULL = tuple(itertools.product(("read", "write", "randread", "randwrite"), ("4k", "64k", "1m", "4m"), (1, 32), (1, 4)))

# A namespace of its own for the second interface.
PEER = """ip netns add peer && ip link set eth1 netns peer && ip addr add 10.0.0.1/24 dev eth0 && ip link set eth0 up &&
ip -n peer addr add 10.0.0.2/24 dev eth1 && ip -n peer link set eth1 up"""
IN_PEER = ("ip", "netns", "exec", "peer")


def disk(device, cases):
    """Figures of fio: `disk.HOW.SIZE.REQUESTS.JOBS` in MiB/s, `iops.…` in requests per second."""
    name = os.path.basename(device)
    queue = f"/sys/block/{name}/queue"
    with open(f"{queue}/max_hw_sectors_kb") as file:
        most = file.read().strip()
    with open(f"{queue}/max_sectors_kb", "w") as file:
        file.write(str(min(int(most), 4096)))
    jobs = ["[global]", f"filename={device}", "direct=1", "ioengine=libaio", "group_reporting", "time_based", "norandommap",
            "randrepeat=1", f"runtime={SECONDS}", f"ramp_time={int(RAMP_SECONDS * 1000)}ms"]
    for how, size, requests, workers in cases:
        jobs += [f"[{how}.{size}.{requests}.{workers}]", "stonewall", f"rw={how}", f"bs={size}", f"iodepth={requests}",
                 f"numjobs={workers}"]
    with tempfile.NamedTemporaryFile("w", suffix=".fio") as file:
        file.write("\n".join(jobs))
        file.flush()
        report = json.loads(output("fio", "--output-format=json", file.name))
    figures = {}
    for job in report["jobs"]:
        if job["error"]:
            raise SystemExit(f"fio: error {job['error']} in {job['jobname']}")
        side = job["write" if "write" in job["jobname"] else "read"]
        figures[f"disk.{job['jobname']}"] = side["bw_bytes"] / (1 << 20)
        figures[f"iops.{job['jobname']}"] = side["iops"]
    with open(f"{queue}/max_segment_size") as file:
        figures["segment"] = int(file.read())
    return figures


def network(mtus):
    """Figures of iperf3, `net.MTU` in Mbit/s, and of sockperf, `latency` in microseconds for half a round trip."""
    subprocess.run(["sh", "-c", PEER], check=True)
    figures = {}
    for mtu in mtus:
        subprocess.run(["ip", "link", "set", "eth0", "mtu", mtu], check=True)
        subprocess.run([*IN_PEER, "ip", "link", "set", "eth1", "mtu", mtu], check=True)
        with server("iperf3", "--server", "--one-off"):
            report = json.loads(output("iperf3", "--client", "10.0.0.2", "--time", str(NETWORK_SECONDS), "--omit", "1", "--json"))
        figures[f"net.{mtu}"] = report["end"]["sum_received"]["bits_per_second"] / 1e6
    with server("sockperf", "server") as process:
        text = output("sockperf", "ping-pong", "--ip", "10.0.0.2", "--time", str(NETWORK_SECONDS))
        process.kill()
    figures["latency"] = float(re.search(r"percentile 50\.000 = +([\d.]+)", text)[1])
    for counter in ("tx_dropped", "rx_dropped", "tx_errors", "rx_errors"):
        with open(f"/sys/class/net/eth0/statistics/{counter}") as file:
            figures[f"net.{counter}"] = int(file.read())
    return figures


class server:
    """A program in the peer's namespace that listens once the `with` begins, and has ended after it."""

    def __init__(self, *command):
        self.process = subprocess.Popen([*IN_PEER, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        # Sockets that wait: local address 10.0.0.2 or any, state LISTEN (0A) or, of UDP, unconnected (07).
        while self.process.poll() is None:
            sockets = subprocess.run([*IN_PEER, "cat", "/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp"], stdout=subprocess.PIPE, text=True)
            if re.search(r"^ *\d+: \S+ \S+ 0[A7] ", sockets.stdout, re.MULTILINE):
                return self.process
        raise SystemExit(f"{self.process.args} has ended")

    def __exit__(self, *_):
        self.process.wait()


def output(*command):
    """What a program prints."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}: status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("disk")
    parser.add_argument("mtu", nargs="*")
    options = parser.parse_args()
    figures = disk(options.disk, FULL if options.full else SELECTION)
    if options.mtu:
        figures |= network(options.mtu)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
