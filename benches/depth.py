#!/usr/bin/env python3
"""The engine at its API, by a client that does nothing but write requests and read answers: medians, minima, CPU and memory.

    depth.py BERTH WORK [PART...]       (started by benches/depth, in namespaces of its own)
"""
import json
import os
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse

BERTH, WORK, PARTS = sys.argv[1], sys.argv[2], sys.argv[3:] or ["start", "crowd", "logs", "cp", "net"]
SOCKET = f"{WORK}/berth.sock"
GROUP = "berth-bench-depth"
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
TREES = ["/sys/fs/cgroup"] if V2 else sorted({os.path.realpath(f"/sys/fs/cgroup/{name}") for name in ("cpuacct", "cpu")})
GROUPS = [f"{tree}/{GROUP}" for tree in TREES]
# On v2 containers cannot be made below a group that has processes.
MEMBERS = [f"{group}/engine" if V2 else group for group in GROUPS]
ENV = {**os.environ, "DOCKER_HOST": f"unix://{SOCKET}", "DOCKER_CONFIG": f"{WORK}/config"}
GB = 1_000_000_000


def enter():
    for member in MEMBERS:
        with open(f"{member}/cgroup.procs", "w") as f:
            f.write("0")


def group_cpu():
    """Milliseconds of the engine, its helpers, the command line and the containers."""
    if V2:
        with open(f"{GROUPS[0]}/cpu.stat") as f:
            return int(f.readline().split()[1]) / 1e3
    account = next(g for g in GROUPS if os.path.exists(f"{g}/cpuacct.usage"))
    with open(f"{account}/cpuacct.usage") as f:
        return int(f.read()) / 1e6


def row(what, target, value):
    print(f"| {what} | {target} | {value} |", flush=True)


def spread(times):
    """Median and best, of seconds in milliseconds."""
    return "%.2f / %.2f" % (statistics.median(times) * 1e3, min(times) * 1e3)


class Client:
    """One connection to the engine."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(SOCKET)

    def send(self, method, path, body=None):
        text = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: berth\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        self.socket.sendall(head.encode() + text)

    def answer(self):
        """Status and body of an answer that says its length."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.more()
        head, body = data.split(b"\r\n\r\n", 1)
        length = re.search(rb"content-length: (\d+)", head.lower())
        pieces, have = [body], len(body)
        if length:
            while have < int(length[1]):
                pieces.append(self.more())
                have += len(pieces[-1])
        elif b"chunked" in head.lower():
            while not (pieces[-1] if len(pieces[-1]) > 7 else b"".join(pieces)).endswith(b"0\r\n\r\n"):
                pieces.append(self.more())
        return int(head.split()[1]), b"".join(pieces)

    def more(self):
        data = self.socket.recv(1 << 20)
        if not data:
            raise SystemExit("the engine hung up")
        return data

    def call(self, method, path, body=None):
        self.send(method, path, body)
        status, text = self.answer()
        if status >= 400:
            raise SystemExit(f"{method} {path}: {status} {text.decode(errors='replace')[:300]}")
        return text

    def timed(self, method, path, rounds):
        times = []
        for n in range(-3, rounds):
            start = time.perf_counter()
            self.call(method, path)
            if n >= 0:
                times.append(time.perf_counter() - start)
        return times


class Engine:
    def __init__(self):
        self.log = open(f"{WORK}/engine.log", "w")
        self.start()

    def start(self):
        """Starts it; seconds until it answers."""
        command = [BERTH, "engine", "-H", f"unix://{SOCKET}", "--data-root", f"{WORK}/root", "--exec-root", f"{WORK}/run/berth",
                   "--pidfile", f"{WORK}/pid", "--bip", "10.213.1.1/22", "--cgroup-parent", f"/{GROUP}"]
        start = time.perf_counter()
        self.daemon = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=ENV, preexec_fn=enter)
        while True:
            try:
                Client().call("GET", "/_ping")
                return time.perf_counter() - start
            except OSError:
                if self.daemon.poll() is not None or time.perf_counter() > start + 30:
                    raise SystemExit(f"no engine: see {WORK}/engine.log")
                time.sleep(0.0002)

    def end(self):
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait()

    def restarts(self, rounds):
        times = []
        for _ in range(rounds):
            self.end()
            times.append(self.start())
        return times


def cli(*args, **options):
    return subprocess.run([BERTH, *args], env=ENV, preexec_fn=enter, check=True, stdout=subprocess.PIPE, **options).stdout


def timed_cli(*args, **options):
    """Seconds, and milliseconds of CPU of all that took part."""
    used, start = group_cpu(), time.perf_counter()
    subprocess.run([BERTH, *args], env=ENV, preexec_fn=enter, check=True, **{"stdout": subprocess.DEVNULL, **options})
    return time.perf_counter() - start, group_cpu() - used


def memory(engine):
    """MiB (PSS) of the engine itself, and of everything in the group but containers' own processes."""
    own = total = 0
    for directory, _, _ in os.walk(GROUPS[0]):
        with open(f"{directory}/cgroup.procs") as f:
            pids = f.read().split()
        for pid in pids:
            with open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/smaps_rollup") as rollup:
                if comm.read().strip() == "sleep":
                    continue
                kib = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
            total += kib
            if int(pid) == engine.daemon.pid:
                own = kib
    return own / 1024, total / 1024


def image():
    root = f"{WORK}/rootfs"
    for d in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        os.makedirs(f"{root}/{d}")
    open(f"{root}/dev/null", "w").close()
    shutil.copy(next(p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), f"{root}/bin/busybox")
    for applet in ("sh", "true", "sleep", "cat", "yes", "head", "dd", "seq"):
        os.symlink("busybox", f"{root}/bin/{applet}")
    shutil.copy(f"{WORK}/web", f"{root}/bin/web")
    with open(f"{root}/etc/lines", "w") as f:
        f.write(("x" * 99 + "\n") * 100_000)
    subprocess.run(["tar", "-C", root, "--numeric-owner", "--owner=0", "--group=0", "-cf", f"{WORK}/image.tar", "."], check=True)
    cli("import", f"{WORK}/image.tar", "busybox")


def run_sleepers(client, names):
    for name in names:
        client.call("POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sleep", "100000"]})
        client.call("POST", f"/containers/{name}/start")


def crowd(engine):
    client = Client()
    time.sleep(2)
    own, idle = memory(engine)
    row("engine idle (MiB, PSS); with its helpers", "10", "%.1f; %.1f" % (own, idle))
    run_sleepers(client, [f"c{n}" for n in range(100)])
    time.sleep(2)
    own_then, then = memory(engine)
    row("per idle container (MiB, PSS), of 100; of that the engine itself", "0.15", "%.3f; %.3f" % ((then - idle) / 100, (own_then - own) / 100))
    row("engine start until `/_ping` with 100 containers running", "300", spread(engine.restarts(5)))
    client = Client()
    run_sleepers(client, [f"c{n}" for n in range(100, 200)])
    row("`ps` of 200 containers", "2", spread(client.timed("GET", "/containers/json", 100)))
    row("`inspect`", "0.3", spread(client.timed("GET", "/containers/c7/json", 300)))
    names = [f"c{n}" for n in range(50)]
    samples = []
    for _ in range(3):
        # One connection each, as any client has it.
        clients, used, start = [Client() for _ in names], group_cpu(), time.perf_counter()
        for one, name in zip(clients, names):
            one.send("GET", f"/containers/{name}/stats?stream=false")
        for one in clients:
            one.answer()
        samples.append((time.perf_counter() - start, group_cpu() - used))
    row("`stats --no-stream` of 50, at the API: seconds; CPU", "1.02; 25", "%.3f; %.1f" % (min(s for s, _ in samples), min(c for _, c in samples)))
    samples = [timed_cli("stats", "--no-stream", *names) for _ in range(3)]
    row("the same by the command line", "", "%.3f; %.1f" % (min(s for s, _ in samples), min(c for _, c in samples)))
    deaths(client, [f"c{n}" for n in range(50, 80)])
    lists = [json.loads(client.call("GET", "/containers/json?all=1"))]
    used, start = group_cpu(), time.perf_counter()
    workers = [threading.Thread(target=remove, args=([c["Id"] for c in lists[0][n::8]],)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    row("`rm -f` of 200 over 8 connections; CPU", "", "%.0f; %.0f" % ((time.perf_counter() - start) * 1e3, group_cpu() - used))


def remove(ids):
    client = Client()
    for name in ids:
        client.call("DELETE", f"/containers/{name}?force=1")


def deaths(client, names):
    """From the moment that the kernel says that a container's process has ended to the event."""
    times = []
    for name in names:
        pid = json.loads(client.call("GET", f"/containers/{name}/json"))["State"]["Pid"]
        process = os.pidfd_open(pid)
        events = Client()
        events.send("GET", "/events?filters=" + urllib.parse.quote(json.dumps({"event": ["die"]})))
        client.call("GET", "/_ping")
        time.sleep(0.02)
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [])
        start, told = time.perf_counter(), b""
        while b'"die"' not in told:
            told += events.more()
        times.append(time.perf_counter() - start)
        os.close(process)
        events.socket.close()
    row("the kernel's news of a death to the `die` event", "3", spread(times))


def logs(_engine):
    unlimited = ["--log-opt", "max-size=4g", "--log-opt", "max-file=1"]
    lines = "0123456789" * 9 + "012345678"
    for name, how, command in (
        ("l64", "64 KiB at once", "for i in $(seq 100); do cat /etc/lines; done"),
        ("l4", "4 KiB at once", "for i in $(seq 100); do dd if=/etc/lines bs=4k 2>/dev/null; done"),
        ("lyes", "`yes \\| head -c`", f"yes {lines} | head -c {GB}"),
    ):
        used, start = group_cpu(), time.perf_counter()
        cli("run", "-d", "--network", "none", "--name", name, *unlimited, "busybox", "sh", "-c", command)
        cli("wait", name)
        took, used = time.perf_counter() - start, group_cpu() - used
        start = time.perf_counter()
        subprocess.run(["chroot", f"{WORK}/rootfs", "/bin/sh", "-c", f"{{ {command}; }} | cat >/dev/null"], check=True)
        bare = time.perf_counter() - start
        row(f"1 GB of 100-byte lines printed and logged, {how}: seconds; CPU (seconds without a container, into `cat`)", "4", "%.2f; %.0f (%.2f)" % (took, used, bare))
        if name == "l64":
            row("`logs` of them: seconds; CPU", "3", "%.2f; %.0f" % timed_cli("logs", name))
        cli("rm", name)


def cp(_engine):
    with open(f"{WORK}/big", "wb") as f:
        for _ in range(GB // 1_000_000):
            f.write(os.urandom(1_000_000))
    cli("run", "-d", "--name", "cp", "busybox", "sleep", "100000")
    took = {"in": [], "out": []}
    for n in range(3):
        took["in"].append(timed_cli("cp", f"{WORK}/big", f"cp:/big{n}"))
        took["out"].append(timed_cli("cp", f"cp:/big{n}", f"{WORK}/out"))
        os.unlink(f"{WORK}/out")
        cli("exec", "cp", "busybox", "rm", f"/big{n}")
        os.sync()
    for way, samples in took.items():
        row(f"`cp` of 1 GB {way}: seconds, median / best; CPU", "2.2", "%s; %.0f" % (spread([s / 1e3 for s, _ in samples]), min(c for _, c in samples)))
    cli("rm", "-f", "cp")
    os.unlink(f"{WORK}/big")


def net(_engine):
    cli("run", "-d", "--name", "web", "-p", "127.0.0.1:18080:80", "busybox", "web", "80")
    native = subprocess.Popen([f"{WORK}/web", "18081"], preexec_fn=enter)
    time.sleep(0.5)
    for connections, target in ((1, "0.85"), (32, "0.9")):
        rates = {18080: [], 18081: []}
        for _ in range(5):
            for port, list_ in rates.items():
                told = subprocess.run(["wrk", "-t1", f"-c{connections}", "-d2s", f"http://127.0.0.1:{port}/"], check=True, stdout=subprocess.PIPE, text=True).stdout
                list_.append(float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1]))
        published, own = (statistics.median(rates[p]) for p in (18080, 18081))
        row(f"HTTP through a port published on 127.0.0.1, {connections} connections: of native; per second", target, "%.2f; %.0f of %.0f" % (published / own, published, own))
    native.kill()
    native.wait()
    cli("rm", "-f", "web")


def start(engine):
    row("engine start until `/_ping`, empty", "40", spread(engine.restarts(15)))


def clean():
    for group in GROUPS:
        for directory, _, _ in os.walk(group, topdown=False):
            os.rmdir(directory)


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Where /run is: in memory, as on any machine that systemd starts.
    os.makedirs(f"{WORK}/run")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{WORK}/run"], check=True)
    for member in MEMBERS:
        os.makedirs(member, exist_ok=True)
    engine = Engine()
    try:
        image()
        print("| what (ms where nothing is said; median / best) | target | measured |\n|---|---|---|")
        for part in PARTS:
            {"start": start, "crowd": crowd, "logs": logs, "cp": cp, "net": net}[part](engine)
    finally:
        for container in json.loads(Client().call("GET", "/containers/json?all=1")):
            Client().call("DELETE", f"/containers/{container['Id']}?force=1")
        engine.end()
        time.sleep(0.5)
        clean()


main()
