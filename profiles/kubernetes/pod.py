#!/usr/bin/env python3
"""Jobs of Snakemake as Kubernetes jobs of one pod, by kubectl; Snakemake calls this as the profile beside it says.

pod.py submit --image IMAGE --volume CLAIM:PATH --cpus N --memory-mb N --gpus N --minutes N JOBSCRIPT
pod.py status NAME       running, success or failed
pod.py cancel NAME...
"""

import argparse
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path


def kubectl(*arguments: str, manifest: dict | None = None) -> str:
    content = json.dumps(manifest) if manifest else None
    return subprocess.run(["kubectl", *arguments], input=content, stdout=subprocess.PIPE, text=True, check=True).stdout


def manifest(options: argparse.Namespace) -> dict:
    """A Kubernetes job that runs a job script on the volume, once: Snakemake tries it again."""
    claim, path = options.volume.split(":")
    resources = {"cpu": str(options.cpus), "memory": f"{options.memory_mb}M"}
    limits = {"memory": resources["memory"]}
    if options.gpus:
        limits[options.gpu_resource] = str(options.gpus)
    container = {
        "name": "job",
        "image": options.image,
        "command": ["/bin/sh", str(Path(options.jobscript).resolve())],
        "workingDir": os.getcwd(),
        # The trainer saves its state before this time is over.
        "env": [{"name": "HEADSTART_MAX_MINUTES", "value": str(options.minutes)}],
        "resources": {"requests": resources | limits, "limits": limits},
        "volumeMounts": [{"name": "study", "mountPath": path}],
    }
    pod = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 60 * options.minutes,
        "containers": [container],
        "volumes": [{"name": "study", "persistentVolumeClaim": {"claimName": claim}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"headstart-{uuid.uuid4().hex[:12]}", "labels": {"app": "headstart"}},
        "spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 86400, "template": {"spec": pod}},
    }


def status(name: str) -> str:
    found = json.loads(kubectl("get", "job", name, "--output=json")).get("status", {})
    return "success" if found.get("succeeded") else "failed" if found.get("failed") else "running"


def main() -> None:
    # Snakemake gives the names of jobs to cancel to one program without options, so `cancel` can be left out.
    arguments = (
        sys.argv[1:] if sys.argv[1:2] and sys.argv[1] in ("submit", "status", "cancel") else ["cancel", *sys.argv[1:]]
    )
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    submit = commands.add_parser("submit")
    for name in ("cpus", "memory-mb", "gpus", "minutes"):
        submit.add_argument(f"--{name}", type=int, required=True)
    submit.add_argument("--image", required=True)
    submit.add_argument("--volume", required=True, metavar="CLAIM:PATH")
    submit.add_argument("--gpu-resource", default="nvidia.com/gpu")
    submit.add_argument("jobscript")
    commands.add_parser("status").add_argument("name")
    commands.add_parser("cancel").add_argument("names", nargs="+")
    options = parser.parse_args(arguments)
    if options.command == "submit":
        job = manifest(options)
        kubectl("create", "--filename=-", manifest=job)
        print(job["metadata"]["name"])
    elif options.command == "status":
        print(status(options.name))
    else:
        kubectl("delete", "job", "--wait=false", *options.names)


if __name__ == "__main__":
    main()
