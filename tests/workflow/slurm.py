"""A real Slurm of one node, all of whose files are in one folder. It needs root.

The node has more cores and GPUs than this machine: Slurm only counts them. Its memory says how many
jobs run at a time.
"""

import getpass
import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")  # Debian's
DAEMONS = ("munged", "slurmctld", "slurmd")
DEFAULT = Path("/etc/slurm/slurm.conf")  # where jobs look, to whom SLURM_CONF is not handed on
CORES, GPUS = 32, 4

SLURM_CONF = """\
ClusterName=humanline
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
# On this machine's own address alone.
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Only what a job asks for is requeued: the profile has to.
JobRequeue=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Jobs stay to be counted; a job that does not end at its limit is killed soon.
MinJobAge=86400
KillWait=5
ReturnToService=2
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} Gres=gpu:{gpus}
PartitionName=batch Nodes={host} Default=YES PriorityTier=1
PartitionName=urgent Nodes={host} PriorityTier=2
"""
# What `jobs` tells of a job, by Slurm's name of it.
FIELDS = {
    "JobID": "id",
    "Comment": "what",
    "State": "state",
    "TimeLimit": "limit",
    "tres-per-job": "gpus",
    "RestartCnt": "restarts",
}


def install() -> None:
    """Install Debian's packages, unless they are there.

    Raises:
        subprocess.CalledProcessError: if apt-get cannot.
    """
    if not all(map(shutil.which, DAEMONS)):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            subprocess.run(
                ["apt-get", *arguments], env=environment, check=True, capture_output=True
            )


@contextmanager
def cluster(folder: Path, memory: int):
    """Run a cluster of this machine; gives the environment in which Slurm's commands reach it.

    Args:
        memory: megabytes that jobs may have together.

    Raises:
        FileExistsError: if this machine is part of a cluster already.
    """
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    _configure(folder, memory)
    with ExitStack() as stack:
        DEFAULT.symlink_to(folder / "slurm.conf")
        stack.callback(DEFAULT.unlink)
        for command in _commands(folder):
            stack.enter_context(_daemon(command, environment))
        _wait_for_node(environment)
        yield environment


def _configure(folder: Path, memory: int) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    values = {"host": socket.gethostname().split(".")[0], "user": getpass.getuser()}
    values |= {"controller_port": _free_port(), "node_port": _free_port()}
    values |= {"folder": folder, "cores": CORES, "memory": memory, "gpus": GPUS}
    (folder / "slurm.conf").write_text(SLURM_CONF.format(**values))
    # Files that every machine has stand in for those of GPUs.
    (folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File=/dev/tty[0-{GPUS - 1}]\n")
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)


def _commands(folder: Path) -> list[list]:
    munge = {"socket": "socket", "key-file": "key", "seed-file": "seed", "pid-file": "pid"}
    munge |= {"log-file": "log"}
    options = [f"--{name}={folder}/munge.{suffix}" for name, suffix in munge.items()]
    # Its folder is pytest's, whose parents others may write to; --force says that this is known.
    return [["munged", "--foreground", "--force", *options], ["slurmctld", "-D"], ["slurmd", "-D"]]


@contextmanager
def _daemon(command: list, environment: dict):
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, **options) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_for_node(environment: dict) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        command = ["sinfo", "--noheader", "--format", "%T"]
        node = subprocess.run(command, env=environment, capture_output=True, text=True)
        if "idle" in node.stdout:
            return
        time.sleep(0.5)
    raise RuntimeError(f"the node did not come up: {node.stdout}{node.stderr}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def jobs(environment: dict) -> list[dict[str, str]]:
    """All jobs of the cluster, those that have ended too, by `FIELDS`."""
    columns = ",".join(f"{field}:300|" for field in FIELDS)
    command = ["squeue", "--noheader", "--states=all", "--sort=i", "--Format", columns]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    rows = [line.split("|") for line in output.stdout.splitlines()]
    return [dict(zip(FIELDS.values(), map(str.strip, row), strict=False)) for row in rows]
