#!/usr/bin/env python3
"""Pairs of berth and its peers, interleaved in one run: medians, minima and CPU, and their ratios.

    pairs.py BERTH WORK ROUNDS       (started by benches/run, in namespaces of its own)

Each engine is driven by its own command line (`berth`, `docker`), as users do, started and timed by clock.c; CPU is what the engine,
its helpers, the command line and the containers charged to the engine's cpuacct group, or on pure cgroup v2 to its group there.
"""
import glob
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

BERTH, WORK, ROUNDS = sys.argv[1], sys.argv[2], int(sys.argv[3])
CROWD = 100
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
TREES = ["/sys/fs/cgroup"] if V2 else ["/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu"]


def sh(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout.strip()


class Group:
    """A cgroup that counts CPU time, and that goes before the rest of a busy machine."""

    def __init__(self, name):
        self.paths = list(dict.fromkeys(f"{os.path.realpath(tree)}/berth-bench-{name}" for tree in TREES))
        # On v2 containers cannot be made below a group that has processes.
        self.members = [f"{path}/engine" if V2 else path for path in self.paths]
        for path in self.members:
            os.makedirs(path, exist_ok=True)
        self.write("cpu.weight", "10000")
        self.write("cpu.shares", "262144")

    def write(self, name, value):
        for path in self.paths:
            if os.path.exists(f"{path}/{name}"):
                with open(f"{path}/{name}", "w") as f:
                    f.write(value)

    def enter(self):
        for path in self.members:
            with open(f"{path}/cgroup.procs", "w") as f:
                f.write("0")

    def milliseconds(self):
        if V2:
            with open(f"{self.paths[0]}/cpu.stat") as f:
                return int(f.readline().split()[1]) / 1e3
        with open(f"{self.paths[0]}/cpuacct.usage") as f:
            return int(f.read()) / 1e6

    def remove(self):
        for path in self.paths:
            for root, dirs, _ in os.walk(path, topdown=False):
                for name in dirs:
                    os.rmdir(f"{root}/{name}")
            os.rmdir(path)


class Clock:
    """clock.c, in a group: runs commands and says how long they took."""

    def __init__(self, name, env, enter=None):
        self.out, self.err = f"{WORK}/{name}.out", f"{WORK}/{name}.err"
        self.process = subprocess.Popen([f"{WORK}/clock", self.out, self.err], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=enter)
        self.took = 0.0

    def run(self, *commands, check=True):
        """Runs the commands at the same time; their output. `took`: milliseconds from the start of the first to the end of the last."""
        request = f"{len(commands)}\n" + "".join(f"{len(words)}\n" + "".join(f"{word}\0" for word in words) for words in commands)
        self.process.stdin.write(request.encode())
        self.process.stdin.flush()
        took, status = self.process.stdout.readline().split()
        self.took += int(took) / 1e3
        if check and int(status):
            with open(self.err, errors="replace") as f:
                raise SystemExit(f"{' '.join(commands[0])}: exit {int(status)}: {f.read()[-600:]}")
        with open(self.out, errors="replace") as f:
            return f.read(1 << 20).strip()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Engine:
    def __init__(self, name, cli, daemon, host):
        self.name, self.cli, self.group = name, cli, Group(name)
        self.parent = f"/berth-bench-{name}"
        self.env = {**os.environ, "DOCKER_HOST": host, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": f"{WORK}/config"}
        self.command, self.socket = daemon, host.removeprefix("unix://")
        self.log = open(f"{WORK}/{name}.log", "w")
        self.clock = Clock(name, self.env, self.group.enter)
        self.start()

    def start(self):
        self.daemon = subprocess.Popen(self.command, stdout=self.log, stderr=self.log, env=self.env, preexec_fn=self.group.enter)
        for _ in range(30000):
            if self.ping():
                return
            time.sleep(0.001)
        raise SystemExit(f"{self.name} did not start: see {WORK}/{self.name}.log")

    def ping(self):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(10)
                s.connect(self.socket)
                s.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in s.recv(64)
        except OSError:
            return False

    def end(self):
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait()

    def at_once(self, verb, names):
        """One command for each, all at the same time."""
        self.clock.run(*([*self.cli, *verb, name] for name in names))

    def memory(self):
        """MiB of everything in the group but containers' own processes (`sleep`) and the clock, each page counted once."""
        total = 0
        for directory, _, _ in os.walk(self.group.paths[0]):
            with open(f"{directory}/cgroup.procs") as f:
                pids = f.read().split()
            for pid in pids:
                with open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/smaps_rollup") as rollup:
                    if comm.read().strip() not in ("sleep", "clock"):
                        total += next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        return total / 1024

    def run(self, *args, check=True):
        return self.clock.run([*self.cli, *args], check=check)

    def stop(self):
        for container in self.run("ps", "-aq", check=False).split():
            self.run("rm", "-f", container, check=False)
        self.end()
        self.clock.end()
        time.sleep(0.5)
        try:
            self.group.remove()
            # dockerd and podman leave groups in the other trees.
            for path in glob.glob(f"/sys/fs/cgroup/*/berth-bench-{self.name}"):
                for directory, _, _ in os.walk(path, topdown=False):
                    os.rmdir(directory)
        except OSError as e:
            print(f"left behind: {e}", file=sys.stderr)


class Podman(Engine):
    """An engine without a daemon: each command does the work itself."""

    def __init__(self):
        # crun, its default, refuses machines where the v2 tree beside v1 has a controller.
        super().__init__(
            "podman", ["podman", "--root", f"{WORK}/podman", "--runroot", f"{WORK}/run/podman", "--storage-driver", "overlay",
                       "--cgroup-manager", "cgroupfs", "--runtime", "runc", "--events-backend", "file", "--log-level", "error"], None, "")

    def start(self):
        pass

    def end(self):
        pass

    def run(self, *args, check=True):
        if args[0] in ("run", "create"):
            # It asks for limits that a root without CAP_SYS_RESOURCE cannot have.
            args = (args[0], "--cgroup-parent", self.parent, "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=20000:20000", *args[1:])
        return super().run(*args, check=check)


def peers():
    yield Engine(
        "berth", [BERTH],
        [BERTH, "engine", "-H", f"unix://{WORK}/berth.sock", "--data-root", f"{WORK}/berth", "--exec-root", f"{WORK}/run/berth",
         "--pidfile", f"{WORK}/berth.pid", "--bip", "10.213.1.1/24", "--cgroup-parent", "/berth-bench-berth"],
        f"unix://{WORK}/berth.sock")
    if shutil.which("dockerd"):
        yield Engine(
            "dockerd", ["docker"],
            ["dockerd", "-H", f"unix://{WORK}/docker.sock", "--data-root", f"{WORK}/docker", "--exec-root", f"{WORK}/run/docker",
             "--pidfile", f"{WORK}/docker.pid", "--bip", "10.213.2.1/24", "--cgroup-parent", "/berth-bench-dockerd"],
            f"unix://{WORK}/docker.sock")
    else:
        print("SKIPPED: no dockerd here (apt-get install docker.io)", file=sys.stderr)
    if shutil.which("podman"):
        yield Podman()
    else:
        print("SKIPPED: no podman here (apt-get install podman)", file=sys.stderr)


ROWS = []


def measure(title, engines, step, rounds=ROUNDS, before=None, after=None, wall=False):
    """Times the commands of `step(engine, i)` for each engine in turn, round after round; with `wall`, all that it does."""
    times = {e.name: [] for e in engines}
    cpu = {e.name: 0.0 for e in engines}
    for i in range(-2, rounds):  # two rounds to warm up
        for e in engines:
            if before:
                before(e, i)
            e.clock.took, used, start = 0.0, e.group.milliseconds(), time.perf_counter()
            step(e, i)
            took, used = (time.perf_counter() - start) * 1e3 if wall else e.clock.took, e.group.milliseconds() - used
            if after:
                after(e, i)
            if i >= 0:
                times[e.name].append(took)
                cpu[e.name] += used / rounds
    cells = {}
    for e in engines:
        cells[e.name] = (statistics.median(times[e.name]), min(times[e.name]), cpu[e.name])
    row = [title]
    for e in engines:
        row.append("%.1f / %.1f / %.1f" % cells[e.name])
    if len(engines) > 1:
        ours = cells[engines[0].name]
        theirs = [min(cells[e.name][n] for e in engines[1:]) for n in range(3)]
        row.append("1/%.1f, 1/%.1f" % (theirs[0] / ours[0], theirs[2] / max(ours[2], 0.01)))
    ROWS.append(row)
    print("  " + " | ".join(row), file=sys.stderr)


def answers(port):
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as s:
                s.settimeout(1)
                s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if s.recv(16):
                    return
        except OSError:
            time.sleep(0.001)


def flask_context():
    """The story's shape with its packages (benches/run got them) in the context: no network is measured."""
    directory = f"{WORK}/flask"
    for name, text in {
        "requirements.txt": "Flask==3.0.3\n",
        "app.py": "from flask import Flask\napp = Flask(__name__)\n",
        "Dockerfile": "FROM python:3.9-slim-buster\nWORKDIR /app\nCOPY wheels wheels\nCOPY requirements.txt .\n"
                      "RUN pip install --no-index --find-links wheels -r requirements.txt\nCOPY . .\nCMD [\"python\", \"app.py\"]\n",
    }.items():
        with open(f"{directory}/{name}", "w") as f:
            f.write(text)
    return directory


def edit(directory):
    def change(engine, i):
        with open(f"{directory}/app.py", "a") as f:
            f.write(f"# {engine.name} {i}\n")
    return change


def busybox(engine):
    root = f"{WORK}/rootfs"
    if not os.path.exists(root):
        os.makedirs(f"{root}/bin")
        for d in ("etc", "tmp", "proc", "sys", "dev"):
            os.makedirs(f"{root}/{d}")
        program = next(p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p))
        shutil.copy(program, f"{root}/bin/busybox")
        for applet in ("sh", "true", "sleep", "httpd", "cat", "echo"):
            os.symlink("busybox", f"{root}/bin/{applet}")
        with open(f"{root}/etc/index.html", "w") as f:
            f.write("hi\n")
        with open(f"{root}/etc/lines", "w") as f:
            f.write(("x" * 99 + "\n") * 100_000)
        sh("tar", "-C", root, "--numeric-owner", "--owner=0", "--group=0", "-cf", f"{WORK}/busybox.tar", ".")
    engine.run("import", f"{WORK}/busybox.tar", "busybox")


def main():
    sh("ip", "link", "set", "lo", "up")
    # Where /run is: in memory, as on any machine that systemd starts.
    os.makedirs(f"{WORK}/run")
    sh("mount", "-t", "tmpfs", "tmpfs", f"{WORK}/run")
    # podman wants it to be there.
    os.makedirs(f"{WORK}/config")
    with open(f"{WORK}/config/config.json", "w") as f:
        f.write("{}\n")
    engines, failure = list(peers()), None
    try:
        for e in engines:
            busybox(e)
        measure("CLI and API round trip (`version`)", engines, lambda e, i: e.run("version"))
        measure("`run --rm IMAGE true`, default network", engines, lambda e, i: e.run("run", "--rm", "busybox", "true"))
        measure("the same, `--network none`", engines, lambda e, i: e.run("run", "--rm", "--network", "none", "busybox", "true"))
        measure("`start` of a created container", engines, lambda e, i: e.run("start", f"s{i}"),
                before=lambda e, i: e.run("create", "--name", f"s{i}", "busybox", "sleep", "1000"),
                after=lambda e, i: e.run("rm", "-f", f"s{i}"))
        for e in engines:
            e.run("run", "-d", "--name", "long", "busybox", "sleep", "10000")
        measure("`exec C true`", engines, lambda e, i: e.run("exec", "long", "true"))
        for e in engines:
            e.run("rm", "-f", "long")

        def serve(e, i):
            port = 18000 + i + 500 * engines.index(e)
            e.run("run", "-d", "--name", f"p{i}", "-p", f"{port}:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
            answers(port)
        measure("`run -d -p` until the port answers", engines, serve, rounds=max(5, ROUNDS // 2), wall=True, after=lambda e, i: e.run("rm", "-f", f"p{i}"))

        few = max(2, ROUNDS // 10)
        measure("200 MB of 100-byte lines printed and logged", engines, print_lines, rounds=few, after=lambda e, i: e.run("rm", "-f", f"l{i}"))
        for e in engines:
            print_lines(e, "ast")
        measure("`logs` of them", engines, lambda e, i: e.clock.run(["sh", "-c", "exec \"$@\" >/dev/null", "logs", *e.cli, "logs", "last"]), rounds=few)
        for e in engines:
            e.run("rm", "-f", "last")
        crowd(engines)
        if os.path.isdir(f"{WORK}/flask/wheels"):
            builds(engines)
        else:
            print("SKIPPED: no packages for the Flask build", file=sys.stderr)
    except SystemExit as e:
        failure = e
    finally:
        for e in engines:
            e.stop()
    floor()
    table(engines)
    if failure:
        raise failure
    runtimes()


def builds(engines):
    directory = flask_context()
    for e in engines:
        stand_in(e)
    few = max(3, ROUNDS // 10)
    measure("Flask build, cold", engines, lambda e, i: e.run("build", "--no-cache", "-t", "f", directory), rounds=few)
    measure("Flask build, cached", engines, lambda e, i: e.run("build", "-t", "f", directory), rounds=max(5, ROUNDS // 3))
    measure("Flask build, app.py edited", engines, lambda e, i: e.run("build", "-t", "f", directory), rounds=few, before=edit(directory))


def crowd(engines):
    """Many containers at once, what the engine weighs with them, and how long it takes to be there again."""
    names = [f"m{n}" for n in range(CROWD)]
    cells = {title: [] for title in (f"{CROWD} `start`s at once", f"`rm -f` of the {CROWD}, at once", "engine start until `/_ping`, empty")}
    weights = []
    for e in engines:
        time.sleep(1)
        idle = e.memory()
        for name in names:
            e.run("create", "--name", name, "busybox", "sleep", "1000")
        for title, verb in zip(cells, (["start"], ["rm", "-f"])):
            e.clock.took, used = 0.0, e.group.milliseconds()
            e.at_once(verb, names)
            cells[title].append("%.0f / / %.0f" % (e.clock.took, e.group.milliseconds() - used))
            if verb == ["start"]:
                weights.append("%.1f; %.2f each" % (idle, (e.memory() - idle) / CROWD))
        times = []
        for _ in range(5):
            e.end()
            start = time.perf_counter()
            e.start()
            times.append((time.perf_counter() - start) * 1e3)
        cells["engine start until `/_ping`, empty"].append("%.1f / %.1f" % (statistics.median(times), min(times)) if e.command else "none")
    for title, row in cells.items():
        ROWS.append([title, *row])
        print("  " + " | ".join(ROWS[-1]), file=sys.stderr)
    ROWS.append([f"memory (MiB, PSS): engine and helpers idle; more for each of {CROWD} containers", *weights])
    print("  " + " | ".join(ROWS[-1]), file=sys.stderr)


def print_lines(engine, i):
    engine.run("run", "-d", "--name", f"l{i}", "--log-opt", "max-size=1g", "--log-opt", "max-file=1", "busybox",
               "sh", "-c", "for i in 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9; do cat /etc/lines; done")
    engine.run("wait", f"l{i}")


def stand_in(engine):
    """The stand-in that scripts/base-image makes and caches."""
    cache = os.environ.get("BERTH_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "berth")
    tar = f"{cache}/stand-in/python-3.9-bullseye-1.tar"
    if not os.path.exists(tar):
        raise SystemExit(f"{tar} is missing: run `make demo` once")
    engine.run("import", "--change", "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", tar, "python:3.9-slim-buster")


def floor():
    os.makedirs(f"{WORK}/floor-work")
    times = sorted(int(line) / 1e3 for line in sh(f"{WORK}/floor", str(max(ROUNDS, 50)), f"{WORK}/rootfs", f"{WORK}/floor-work").split())
    ROWS.append(["the kernel's floor (namespaces, overlay, exec, wait; no cgroup, no veth)", "%.1f / %.1f" % (statistics.median(times), times[0])])


def runtimes():
    """OCI runtimes on one bundle: `RUNTIME run` of `true`, in turn. The floor is the same as above."""
    bundle = f"{WORK}/bundle"
    os.makedirs(bundle)
    os.rename(f"{WORK}/rootfs", f"{bundle}/rootfs")
    sh(BERTH, "runtime", "spec", "--bundle", bundle)
    with open(f"{bundle}/config.json") as f:
        config = json.load(f)
    config["process"]["terminal"], config["process"]["args"], config["root"]["readonly"] = False, ["/bin/true"], False
    config["ociVersion"] = "1.0.2"  # what the oldest of them knows
    config["process"].pop("rlimits", None)  # root without CAP_SYS_RESOURCE cannot raise them
    with open(f"{bundle}/config.json", "w") as f:
        json.dump(config, f)
    # crun refuses machines where the v2 tree beside v1 has a controller; this mount namespace is ours.
    if os.path.ismount("/sys/fs/cgroup/unified"):
        sh("umount", "/sys/fs/cgroup/unified")
    programs = {"berth runtime": [BERTH, "runtime"], **{name: [name] for name in ("crun", "runc") if shutil.which(name)}}
    times, cpu = ({name: [] for name in programs} for _ in range(2))
    group = Group("runtimes")
    clock = Clock("runtimes", os.environ, group.enter)
    for i in range(-2, 2 * ROUNDS):
        for name, program in programs.items():
            clock.took, used = 0.0, group.milliseconds()
            clock.run([*program, "run", "--bundle", bundle, f"bench-{os.getpid()}-{i + 2}"])
            if i >= 0:
                times[name].append(clock.took)
                cpu[name].append(group.milliseconds() - used)
    clock.end()
    group.remove()
    print("\n| OCI runtimes, `run` of a bundle's `true` (ms) | median | best | CPU | median and CPU to crun's |\n|---|---|---|---|---|")
    for name in programs:
        row = (statistics.median(times[name]), min(times[name]), statistics.median(cpu[name]))
        peer = "%.2f, %.2f" % (row[0] / statistics.median(times["crun"]), row[2] / statistics.median(cpu["crun"])) if "crun" in times else ""
        print("| %s | %.1f | %.1f | %.1f | %s |" % (name, *row, peer))


def table(engines):
    names = [e.name for e in engines]
    print("| what (ms: median / best / CPU) | " + " | ".join(names) + (" | to the best peer: medians, CPU |" if len(names) > 1 else " |"))
    print("|---|" + "---|" * (len(names) + (len(names) > 1)))
    for row in ROWS:
        print("| " + " | ".join(row + [""] * (len(names) + 1 + (len(names) > 1) - len(row))) + " |")


if __name__ == "__main__":
    main()
