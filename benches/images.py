"""What images cost: fetched, made mountable, removed, sent (started by benches/images, in namespaces of its own).

The registry is Debian's docker-registry on loopback, the same for all. The image has one gzip layer whose tar has 239 MiB in 13,000
files; the one that is removed has 30,000 small files. Pulling is timed until a container can be made of it.
"""
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import tarfile
import time
import urllib.request

import pairs
from pairs import ROUNDS, WORK, measure, peers, sh, table

# 1, but for a look whether all of it still works.
SMALLER = int(os.environ.get("BENCH_SMALLER", "1"))
PORT = 5017
HOST = f"127.0.0.1:{PORT}"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CONFIG = "application/vnd.docker.container.image.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def tar(path, files, total):
    """Files whose bytes compress about as those of a distribution do (to a third), the same in every run."""
    dice = random.Random(files)
    words = [dice.randbytes(dice.randint(3, 12)) for _ in range(20_000)]
    text = b"".join(dice.choice(words) for _ in range(1 << 18))
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as out:
        for number in range(files):
            size = min(int(dice.lognormvariate(0, 1.5) * total / files / 3), 20 << 20)
            at = dice.randrange(len(text) - 1)
            content = (text[at:] + text[:at]) * (size // len(text) + 1)
            info = tarfile.TarInfo(f"usr/d{number // 100}/f{number}")
            info.size, info.mtime, info.mode = size, 1_700_000_000, 0o644
            out.addfile(info, io.BytesIO(content[:size]))
        rest = total - out.offset
        if rest > 0:
            info = tarfile.TarInfo("usr/rest")
            info.size, info.mtime = rest, 1_700_000_000
            out.addfile(info, io.BytesIO((text * (rest // len(text) + 1))[:rest]))


def request(method, url, body=None, kind="application/octet-stream"):
    return urllib.request.urlopen(urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind}))


def put_blob(name, data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    at = request("POST", f"http://{HOST}/v2/{name}/blobs/uploads/").headers["Location"]
    at = at if at.startswith("http") else f"http://{HOST}{at}"
    request("PUT", at + ("&" if "?" in at else "?") + f"digest={digest}", data)
    return {"digest": digest, "size": len(data)}


MADE = {}


def publish(name, path):
    """An image of one gzip layer."""
    if name not in MADE:
        with open(path, "rb") as file:
            plain = file.read()
        diff = "sha256:" + hashlib.sha256(plain).hexdigest()
        config = json.dumps({"architecture": "arm64" if os.uname().machine == "aarch64" else "amd64", "os": "linux",
                             "config": {"Cmd": ["/none"]}, "rootfs": {"type": "layers", "diff_ids": [diff]}}).encode()
        MADE[name] = config, gzip.compress(plain, 6, mtime=0), plain
    config, packed, plain = MADE[name]
    layer = put_blob(name, packed)
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, **put_blob(name, config)},
                           "layers": [{"mediaType": LAYER, **layer}]}).encode()
    request("PUT", f"http://{HOST}/v2/{name}/manifests/v1", manifest, MANIFEST)
    return config, plain


def archive(path, name, config, layer):
    """The image as an archive of `docker save`, its layer plain."""
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [f"{name}:v1"], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as out:
        for member, data in ((config_name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))


def insecure(engine):
    return ("--tls-verify=false",) if engine.name == "podman" else ()


def serve():
    config = f"{WORK}/registry.yml"
    with open(config, "w") as file:
        file.write(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {WORK}/registry}}}}\n"
                   f"http: {{addr: {HOST}}}\n")
    process = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(500):
        try:
            request("GET", f"http://{HOST}/v2/")
            return process
        except OSError:
            time.sleep(0.02)
    raise SystemExit("docker-registry did not start")


def quiet_remove(engine, *images):
    for image in images:
        engine.run("rmi", "-f", image, check=False)


def pull_until_runnable(engine, name):
    engine.run("pull", "-q", *insecure(engine), name)
    engine.run("create", "--name", "made", "--network", "none", name)


def forget(engine, name):
    engine.run("rm", "made", check=False)
    quiet_remove(engine, name)


def measure_all(engines):
    for name, files, total in (("large", 13_000, (239 << 20) // SMALLER), ("many", 30_000 // SMALLER, (60 << 20) // SMALLER)):
        tar(f"{WORK}/{name}.tar", files, total)
        config, layer = publish(name, f"{WORK}/{name}.tar")
        if name == "large":
            archive(f"{WORK}/large.archive", f"{HOST}/large", config, layer)
    large, many = f"{HOST}/large:v1", f"{HOST}/many:v1"
    measure("pull of 239 MiB in one gzip layer, until a container is made of it", engines,
            lambda e, i: pull_until_runnable(e, large), after=lambda e, i: forget(e, large))
    measure("`load` of the same layer, 13,000 files, plain (hashed, written, made mountable)", engines,
            lambda e, i: e.run("load", "-i", f"{WORK}/large.archive"), after=lambda e, i: quiet_remove(e, large))
    floor("read, hash and write the same tar (`tee`, `sha256sum`)", f"{WORK}/large.tar")
    measure("`rmi` of 30,000 files", engines, lambda e, i: e.run("rmi", many),
            before=lambda e, i: e.run("pull", "-q", *insecure(e), many))
    # A repository that has nothing yet: other bytes are in the way of a link from one to the next.
    def send(engine, number, kind):
        name = f"{HOST}/{kind}-{engine.name}-{number + 2}:v1"
        engine.run("push", *insecure(engine), name)

    def prepare(engine, number, kind):
        name = f"{HOST}/{kind}-{engine.name}-{number + 2}:v1"
        if kind == "kept":
            engine.run("pull", "-q", *insecure(engine), large)
        else:
            engine.run("load", "-i", f"{WORK}/large.archive")
        engine.run("tag", large, name)
        wipe()

    def clean(engine, number, kind):
        quiet_remove(engine, f"{HOST}/{kind}-{engine.name}-{number + 2}:v1", large)
        publish("large", f"{WORK}/large.tar")

    for kind, title in (("kept", "push, the layer as it came"), ("made", "push, the layer compressed for it")):
        measure(title, engines, lambda e, i: send(e, i, kind), before=lambda e, i: prepare(e, i, kind),
                after=lambda e, i: clean(e, i, kind))


def wipe():
    """Takes the blobs from the registry, so that what is pushed has to travel."""
    global REGISTRY
    REGISTRY.terminate()
    REGISTRY.wait()
    shutil.rmtree(f"{WORK}/registry", ignore_errors=True)
    REGISTRY = serve()


def floor(title, path):
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        sh("sh", "-c", f"tee {WORK}/floor.out < {path} | sha256sum")
        times.append((time.perf_counter() - start) * 1e3)
    os.remove(f"{WORK}/floor.out")
    pairs.ROWS.append([title, "%.1f / %.1f" % (statistics.median(times), min(times))])


def main():
    global REGISTRY
    os.makedirs(f"{WORK}/run", exist_ok=True)
    sh("mount", "-t", "tmpfs", "tmpfs", f"{WORK}/run")
    sh("ip", "link", "set", "lo", "up")
    # Podman asks for the file that DOCKER_CONFIG speaks of.
    os.makedirs(f"{WORK}/config", exist_ok=True)
    with open(f"{WORK}/config/config.json", "w") as file:
        file.write("{}")
    REGISTRY = serve()
    engines = list(peers())
    try:
        measure_all(engines)
    finally:
        for engine in engines:
            engine.stop()
        REGISTRY.terminate()
        REGISTRY.wait()
    table(engines)


main()
