"""What is sent to Slurm: the job of one run on many GPUs, and what the grid asks for."""

import os
import subprocess
from pathlib import Path

import yaml
from places import ROOT

TRAIN, PROFILE = ROOT / "grid/slurm/train.sh", ROOT / "grid/slurm/config.yaml"


def test_the_job_starts_one_launcher_a_node(tmp_path: Path) -> None:
    """With commands of Slurm that only say what they are asked."""
    for name, does in {"scontrol": "printf 'node7\\nnode8\\n'", "srun": 'echo "srun $*"'}.items():
        command = tmp_path / name
        command.write_text(f"#!/bin/bash\n{does}\n")
        command.chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "4123"}
    said = subprocess.run(
        ["bash", TRAIN, "a.ipynb", "--out", "runs/a b"],
        env=os.environ | job | {"SLURM_GPUS_ON_NODE": "8", "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert " -m localmi launch --nnodes 2 --nproc 8 --rendezvous node7:24123 " in said
    assert said.endswith("--max-restarts 3 a.ipynb --out runs/a b\n")


def test_only_trainings_ask_for_a_gpu() -> None:
    profile = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    asked = profile["set-resources"]
    files = [ROOT / "grid/Snakefile", *(ROOT / "grid").glob("*.smk")]
    rules = "".join(path.read_text(encoding="utf-8") for path in files)
    assert all(f"rule {name}:" in rules for name in {*asked, *profile["set-threads"]})
    assert {name for name, needs in asked.items() if "gres" in needs} == {
        "pretrain",
        "downstream",
        "variant",
    }
