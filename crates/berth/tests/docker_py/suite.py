"""What programs do with docker-py, once each. Run by docker_py.rs."""

import io
import sys
import tarfile

import docker

client = docker.DockerClient(base_url=sys.argv[1])
run = client.containers.run


def tar_of(name, content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def runs():
    assert client.ping()
    assert run("busybox", "echo hi", remove=True) == b"hi\n"
    assert run("busybox", "echo hi", tty=True, remove=True) == b"hi\r\n"
    error = raises(
        docker.errors.ContainerError,
        lambda: run("busybox", 'sh -c "echo bad >&2; exit 3"', remove=True),
    )
    assert (error.exit_status, error.stderr) == (3, b"bad\n"), error
    raises(docker.errors.ImageNotFound, lambda: client.images.get("absent"))
    raises(docker.errors.NotFound, lambda: client.containers.get("absent"))


def execs():
    box = run("busybox", "sleep 1000", detach=True, environment={"E": "1"})
    # Its first bytes come right behind the head of the answer.
    for _ in range(20):
        assert box.exec_run("echo x") == (0, b"x\n")
    assert box.exec_run(["sh", "-c", "exit 5"]).exit_code == 5
    both = box.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
    assert both.output == (b"o\n", b"e\n"), both
    asked = box.exec_run("sh -c 'id -u; pwd; echo $Q'", user="alice", workdir="/tmp", environment={"Q": "2"})
    assert asked.output == b"1000\n/tmp\n2\n", asked
    absent = box.exec_run("absent")
    assert absent.exit_code == 127 and b"executable file not found" in absent.output, absent
    parts = box.exec_run(["sh", "-c", "echo a; echo b"], stream=True).output
    assert b"".join(parts) == b"a\nb\n"
    box.remove(force=True)


def streams():
    box = client.containers.create("busybox", "cat", stdin_open=True)
    socket = box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    box.start()
    socket._sock.sendall(b"typed\n")
    assert socket._sock.recv(100)[8:] == b"typed\n"
    box.remove(force=True)
    box = run("busybox", "sh -c 'for i in 1 2 3; do echo line$i; done'", detach=True)
    assert box.wait()["StatusCode"] == 0
    assert list(box.logs(stream=True, follow=True)) == [b"line1\n", b"line2\n", b"line3\n"]
    assert box.logs(tail=1) == b"line3\n"
    box.remove()


def files():
    box = client.containers.create("busybox", "cat /tmp/f")
    assert box.put_archive("/tmp", tar_of("f", b"abc"))
    pieces, stat = box.get_archive("/tmp/f")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        assert tar.extractfile("f").read() == b"abc"
    assert (stat["name"], stat["size"]) == ("f", 3), stat
    box.start()
    assert box.wait()["StatusCode"] == 0
    assert box.logs() == b"abc"
    image = box.commit("made", "1")
    assert image.tags == ["made:1"]
    box.remove()
    client.images.remove("made:1")


def builds():
    text = b'FROM busybox\nRUN echo built > /b\nCMD ["cat","/b"]\n'
    image, _ = client.images.build(fileobj=io.BytesIO(text), tag="built:1", rm=True)
    assert image.tags == ["built:1"]
    assert run("built:1", remove=True) == b"built\n"
    client.images.remove("built:1")
    raises(
        docker.errors.BuildError,
        lambda: client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 4\n")),
    )
    raises(
        docker.errors.APIError,
        lambda: client.images.build(fileobj=io.BytesIO(b"FROM busybox\nNONSENSE\n")),
    )


def networks_and_volumes():
    network = client.networks.create("inner", driver="bridge")
    server = run("busybox", "sleep 1000", detach=True, network="inner", name="server")
    assert b"1 packets received" in run("busybox", "ping -c1 server", network="inner", remove=True)
    network.disconnect(server)
    network.connect(server, aliases=["other"])
    assert b"1 packets received" in run("busybox", "ping -c1 other", network="inner", remove=True)
    server.remove(force=True)
    network.remove()
    volume = client.volumes.create("kept", labels={"q": "w"})
    run("busybox", "sh -c 'echo d > /d/f'", volumes={"kept": {"bind": "/d", "mode": "rw"}}, remove=True)
    assert run("busybox", "cat /d/f", volumes=["kept:/d"], remove=True) == b"d\n"
    assert [v.name for v in client.volumes.list(filters={"label": "q=w"})] == ["kept"]
    volume.remove()


def events():
    stream = client.events(decode=True, filters={"container": "told"})
    run("busybox", "true", name="told", remove=True)
    actions = [next(stream)["Action"] for _ in range(4)]
    stream.close()
    assert actions[0] == "create" and "start" in actions and "die" in actions, actions


for part in [runs, execs, streams, files, builds, networks_and_volumes, events]:
    print(part.__name__, flush=True)
    part()
