"""Builds model images from Cog projects the way `cog build` does: same labels, environment, entrypoint and folders.

The `cog` command itself is a Go binary that no package registry carries.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker

from core.cog_config import CogConfig, read_config
from tests.support.base_image import base_image

INSPECTOR = Path(__file__).parents[2] / "worker" / "schema_inspector.py"

ENVIRONMENT_DOCKERFILE = """
FROM {base}
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir --no-compile {requirements}
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1
"""

MODEL_DOCKERFILE = """
FROM {environment}
{variables}
WORKDIR /src
EXPOSE 5000
COPY . /src
ENTRYPOINT ["/sbin/tini", "--"]
CMD ["python", "-m", "cog.server.http"]
"""

PLAIN_DOCKERFILE = """
FROM {base}
RUN ln -s python3 /usr/bin/python
WORKDIR /src
COPY . /src
{lines}
ENTRYPOINT ["/sbin/tini", "--"]
"""


def cog_image(client: docker.DockerClient, project: Path, sdk_version: str | None = None) -> str:
    """The image id of the Cog project in `project`; `sdk_version` takes the place of the one in its cog.yaml."""
    config = read_config(project)
    environment = _environment_image(client, sdk_version or config.sdk_version, config)
    with tempfile.TemporaryDirectory(prefix="millrace-image-") as scratch:
        context = Path(scratch) / "context"
        shutil.copytree(project, context, ignore=shutil.ignore_patterns("__pycache__"))
        inspected = _inspect(client, environment, context, config)
        schema = inspected["openapi_schema"]
        (context / ".cog").mkdir()
        (context / ".cog/openapi_schema.json").write_text(json.dumps(schema))
        variables = {
            "COG_PREDICT_TYPE_STUB": config.reference,
            "COG_MAX_CONCURRENCY": str(config.concurrency or inspected["concurrency"]),
            **config.environment,
        }
        lines = "\n".join(f"ENV {name}={json.dumps(value)}" for name, value in variables.items())
        labels = {
            "run.cog.version": "0.23.1",
            "run.cog.config": json.dumps({"predict": config.reference, "build": {"gpu": config.gpu}}),
            "run.cog.openapi_schema": json.dumps(schema),
            "run.cog.pip_freeze": _run(client, environment, ["pip", "freeze"]).decode(),
            "run.cog.has_init": "true",
        }
        return _build(client, MODEL_DOCKERFILE.format(environment=environment, variables=lines), context, labels)


def plain_image(client: docker.DockerClient, files: Mapping[str, str], lines: str = "") -> str:
    """An image with Python and `files` in /src, but no Cog: for servers that end in their own ways. `lines` are added
    to its Dockerfile."""
    with tempfile.TemporaryDirectory(prefix="millrace-image-") as scratch:
        for name, text in files.items():
            path = Path(scratch) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return _build(client, PLAIN_DOCKERFILE.format(base=base_image(client), lines=lines), Path(scratch), {})


def push(client: docker.DockerClient, image: str, repository: str, tag: str = "latest") -> str:
    """Push `image` as `repository`, which begins with the registry's host; returns it pinned by digest."""
    client.images.get(image).tag(repository, tag)
    for step in client.api.push(repository, tag=tag, stream=True, decode=True):
        if "error" in step:
            raise RuntimeError(f"Pushing {repository}:{tag} failed: {step['error']}")
        if "Digest" in step.get("aux", {}):
            return f"{repository}@{step['aux']['Digest']}"
    raise RuntimeError(f"Pushing {repository}:{tag} gave no digest.")


def untag(client: docker.DockerClient, host: str) -> None:
    """Forget what was pushed to or pulled from the registry at `host`."""
    for image in client.images.list():
        # With its last tag in a repository an image loses its digests there too.
        tags = [name for name in image.tags if name.startswith(f"{host}/")]
        digests = [name for name in image.attrs["RepoDigests"] if name.startswith(f"{host}/")]
        for name in tags or digests:
            client.images.remove(name)


def _environment_image(client: docker.DockerClient, sdk_version: str, config: CogConfig) -> str:
    """Python with Cog and the project's requirements; kept under a tag, since pip takes longest of all."""
    requirements = " ".join(f"'{line}'" for line in (f"cog=={sdk_version}", *config.requirements))
    dockerfile = ENVIRONMENT_DOCKERFILE.format(base=base_image(client), requirements=requirements)
    tag = f"millrace-test/environment:{hashlib.sha256(dockerfile.encode()).hexdigest()[:12]}"
    if not client.images.list(name=tag):
        with tempfile.TemporaryDirectory(prefix="millrace-image-") as empty:
            client.images.get(_build(client, dockerfile, Path(empty), {})).tag(tag)
    return tag


def _inspect(client: docker.DockerClient, environment: str, project: Path, config: CogConfig) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="millrace-inspect-") as scratch:
        mounts = {
            str(INSPECTOR): {"bind": "/inspector.py", "mode": "ro"},
            str(project): {"bind": "/src", "mode": "ro"},
            scratch: {"bind": "/result", "mode": "rw"},
        }
        references = [config.reference, *filter(None, [config.train_reference])]
        command = ["python", "-I", "/inspector.py", "/result/result.json", *references]
        output = _run(client, environment, command, volumes=mounts, working_dir="/src")
        result = json.loads((Path(scratch) / "result.json").read_text())
    if "openapi_schema" not in result:
        raise RuntimeError(f"{project} could not be inspected: {result}\n{output.decode()}")
    return result


def _run(client: docker.DockerClient, image: str, command: list[str], **options: Any) -> bytes:
    return client.containers.run(image, command, remove=True, network_mode="none", **options)


def _build(client: docker.DockerClient, dockerfile: str, context: Path, labels: Mapping[str, str]) -> str:
    """The network is the host's: its name servers may be on loopback, which a bridge does not reach."""
    (context / "Dockerfile").write_text(dockerfile)
    (context / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")
    image, _ = client.images.build(path=str(context), labels=dict(labels), network_mode="host", rm=True, forcerm=True)
    return image.id
