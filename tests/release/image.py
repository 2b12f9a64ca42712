"""Looks at an unpacked image: image.py FOLDER ARCH PROGRAM. Written against the specification, not against packaging/image."""

import gzip
import hashlib
import io
import json
import pathlib
import sys
import tarfile

folder, arch, program = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])


def blob(descriptor):
    """What a descriptor names (OCI image-spec, descriptor.md): its size and digest hold."""
    kind, _, digest = descriptor["digest"].partition(":")
    data = (folder / "blobs" / kind / digest).read_bytes()
    assert len(data) == descriptor["size"] and hashlib.sha256(data).hexdigest() == digest, descriptor
    return data


assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
index = json.loads((folder / "index.json").read_text())
[entry] = index["manifests"]
manifest = json.loads(blob(entry))
config = json.loads(blob(manifest["config"]))
[layer] = manifest["layers"]
packed = blob(layer)
with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
    members = {member.name: member for member in tar}
    content = tar.extractfile("usr/bin/sanedge").read()
assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(gzip.decompress(packed)).hexdigest()]

platform = {"amd64": ("amd64", None), "arm64": ("arm64", "v8"), "armhf": ("arm", "v6")}[arch]
for said in (entry["platform"], config):
    assert (said["architecture"], said.get("variant"), said["os"]) == (*platform, "linux"), said
[docker] = json.loads((folder / "manifest.json").read_text())
assert docker["Config"].endswith(manifest["config"]["digest"].removeprefix("sha256:"))
assert docker["Layers"][0].endswith(layer["digest"].removeprefix("sha256:"))

run = config["config"]
user, group = run["User"].split(":")
assert int(user) > 0 and int(group) > 0, "a number, and not root's"
assert run["Entrypoint"] == ["/usr/bin/sanedge"] and run["Cmd"][0] == "serve"
health = run["Healthcheck"]
assert health["Test"] == ["CMD", "/usr/bin/sanedge", "status", "--check"] and health["Interval"] == 30_000_000_000, health

assert content == program.read_bytes()
assert (members["usr/bin/sanedge"].mode, members["usr/bin/sanedge"].uid) == (0o755, 0)
for path in ("run/sanedge", "run/sanedge-acme/challenges", "var/lib/sanedge", "var/lib/sanedge-acme"):
    assert (members[path].isdir(), members[path].uid, members[path].gid) == (True, int(user), int(group)), path
for path in ("run", "var", "var/lib", "usr/share/doc/sanedge/LICENSE-MIT"):
    assert members[path].uid == 0, path
assert not any(name.startswith(("bin", "etc", "usr/bin/sh")) for name in members), "no shell, no accounts"
assert len({member.mtime for member in members.values()}) == 1
