"""What failing programs print -> a sentence that says why, and what to change. The first pattern of a line wins."""

from __future__ import annotations

import re
from dataclasses import dataclass

KERNEL = "out of memory: the kernel ended it"
OUTSIDE = "killed from outside"

_MPI = (
    "add openmpi-bin and libopenmpi-dev to `environment.apt` of train.yml, or use an image that has Open MPI"
)
_MEMORY = "a smaller batch, or more in `resources.memory` of train.yml"
_GPU_MEMORY = (
    "a smaller batch, or more in `resources.gpu` of train.yml: a GPU with more memory, or one for each rank"
)
_BROKEN_GPU = (
    "look at it with: nvidia-smi -q; take the host out of use until it was reset, then: pushtrain run --fresh"
)
_SHM = "raise `resources.shm` of train.yml, or use fewer workers that load data"
_NETWORK = "see which interfaces the hosts share with: ip -brief address"
_PORT = "leave the choice of ports to Pushtrain, or end what listens there; see: ss -ltnp"
_SLOW = "see what the other ranks did then: pushtrain logs; `timeout.silence` of train.yml has their stacks written"
_HOROVOD = "build Horovod for this TensorFlow: give both in `environment.pip` of train.yml and run again"
_FIRST = "see how the other ranks ended: pushtrain logs"
_BY_WHOM = "who did it (a person, a batch system, an out-of-memory daemon) may have it in its log: journalctl"
_CPU = "install a build for this machine's CPU, or choose hosts by `resources.labels`: lscpu shows what it can do"


@dataclass(frozen=True, kw_only=True)
class Known:
    """A text, the sentence for it (`{}` stands for what the pattern caught), and what to change."""

    pattern: re.Pattern[str]
    sentence: str
    tip: str = ""

    def matches(self, cause: str) -> bool:
        """Whether `cause` is this sentence with something in it."""
        before, gap, after = self.sentence.partition("{}")
        if self.sentence == "{}":
            return self.pattern.search(cause) is not None
        return cause == before if not gap else cause.startswith(before) and cause.endswith(after)


def _known(pattern: str, sentence: str, tip: str = "") -> Known:
    return Known(pattern=re.compile(pattern), sentence=sentence, tip=tip)


# A rank that prints one of these failed for a reason of its own.
ORIGINS = (
    # memory
    _known(
        r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|CUDA error: out of memory|OOM when allocating tensor.*GPU",
        "the GPU's memory is full",
        _GPU_MEMORY,
    ),
    _known(
        r"insufficient shared memory|unable to (?:allocate|open) shared memory|torch_shm_manager.*No space",
        "the shared memory (/dev/shm) is full",
        _SHM,
    ),
    _known(
        r"DataLoader worker .*killed by signal: Killed",
        "out of memory: a process that loads data was killed",
        "fewer workers that load data, or more in `resources.memory` of train.yml",
    ),
    _known(r"Bus error|\(SIGBUS\)", "a bus error: the shared memory (/dev/shm) may be full", _SHM),
    _known(
        r"MemoryError|Cannot allocate memory|std::bad_alloc|DefaultCPUAllocator: can't allocate|OOM when allocating",
        "out of memory",
        _MEMORY,
    ),
    # GPUs
    _known(
        r"uncorrectable ECC|CUDA_ERROR_ECC_UNCORRECTABLE|NVRM: Xid|fallen off the bus|CUDA_ERROR_HARDWARE_STACK_ERROR",
        "a GPU is broken",
        _BROKEN_GPU,
    ),
    _known(
        r"device-side assert triggered|CUDA_ERROR_ASSERT",
        "an assertion failed on the GPU (often an index or a label out of range)",
        "run it once with CUDA_LAUNCH_BLOCKING=1 in `env` of train.yml: then the guilty line is named",
    ),
    _known(
        r"illegal memory access was encountered|CUDA_ERROR_ILLEGAL_ADDRESS",
        "a kernel on the GPU used memory that it has not",
        "run it once with CUDA_LAUNCH_BLOCKING=1 in `env` of train.yml: then the guilty line is named",
    ),
    _known(
        r"[Nn]o CUDA-capable device|CUDA_ERROR_NO_DEVICE|No CUDA GPUs are available|Found no NVIDIA driver",
        "it sees no GPU",
        "ask for one in `resources.gpu` of train.yml; on the host: nvidia-smi",
    ),
    _known(
        r"Torch not compiled with CUDA enabled|doesn't have NCCL built in",
        "PyTorch was built without CUDA",
        "install a build with CUDA in `environment.pip` of train.yml, or use the gloo backend",
    ),
    _known(
        r"Duplicate GPU detected",
        "two ranks use one GPU",
        "one rank for each GPU in `distribution.processes_per_node`, each on the GPU that LOCAL_RANK names",
    ),
    # disk, files, ports
    _known(r"No space left on device", "the disk is full", "free some with: pushtrain gc"),
    _known(
        r"Too many open files",
        "too many open files",
        "raise the limit of the host (ulimit -n, LimitNOFILE), or use fewer workers that load data",
    ),
    _known(
        r"EADDRINUSE.*|[Aa]ddress already in use|(?:Failed|Could not) (?:to )?start (?:gRPC )?server"
        r"|Failed to add port to server",
        "a port is in use",
        _PORT,
    ),
    # programs and packages
    _known(
        r"HorovodVersionMismatchError|Horovod has not been built with|Extension horovod\S* has not been built"
        r"|horovod\S{0,200}mpi_lib\S{0,200}: undefined symbol",
        "Horovod was built for another version of its framework",
        _HOROVOD,
    ),
    _known(
        r"lib(?:open-)?(?:mpi|rte|pal|mpi_cxx)\.so[.\d]*: cannot open shared object|cannot load MPI library",
        "Open MPI is missing in the environment",
        _MPI,
    ),
    _known(
        r"(?:^|: )(?:mpirun|mpiexec|orted): (?:command )?not found|exec:? (?:\S*/)?(?:mpirun|mpiexec|orted)[ :]",
        "Open MPI is missing in the environment",
        _MPI,
    ),
    _known(
        r"(lib(?:cuda|cudart|cudnn|cublas|nccl|nvinfer)\S*): cannot open shared object",
        "the library {} of CUDA is missing in the environment",
        "use a base image with CUDA in `environment.base` of train.yml, or the wheels of nvidia in `environment.pip`",
    ),
    _known(
        r"(lib\S+): cannot open shared object file",
        "the library {} is missing in the environment",
        "add its Debian package to `environment.apt` of train.yml",
    ),
    _known(
        r"ModuleNotFoundError: No module named '([\w.]+)'",
        "the package {} is missing",
        "add it to `environment.pip` of train.yml, or to its requirements file",
    ),
    _known(
        r"^(?:\[\w+\]: )?(ImportError: .+)$",
        "{}",
        "the versions in `environment.pip` of train.yml do not fit",
    ),
    _known(
        r"(?:python\d?: )?can't open file '([^']+)'",
        "there is no file {} in the source",
        "commit it, or mend `run` or `entrypoint` of train.yml",
    ),
    _known(
        r"exec:? (\S+?):? (?:failed: No such file or directory|not found)",
        "there is no program {} in the environment",
    ),
    _known(
        r"^(?:\S+: (?:line )?\d+|\S*sh): (?:exec: )?(\S+): (?:command )?not found$",
        "there is no program {} in the environment",
    ),
    # mpirun
    _known(
        r"mpirun has exited due to process rank (\d+)",
        "rank {} ended without MPI_Finalize while the others went on",
        "let every rank reach the end of the program, or call MPI_Abort",
    ),
    _known(
        r"There are not enough slots available",
        "mpirun was asked for more ranks than there are slots",
        "mpirun in `run` of train.yml needs no -np and no --host: ask by `distribution.processes_per_node`",
    ),
    _known(
        r"^Executable: (\S+)",
        "mpirun found no program {} on a node",
        "check `run` or `entrypoint` of train.yml; what it starts must be in every node's environment",
    ),
    _known(
        r"(?:unable to find|unable to launch) the specified (?:executable|application)",
        "mpirun found no such program on a node",
        "check `run` or `entrypoint` of train.yml; what it starts must be in every node's environment",
    ),
    _known(
        r'"?plm_rsh_agent"? was set to a path|None of the agents listed|plm_rsh_agent: \S+',
        "mpirun cannot reach the other nodes: its agent is not there",
        "leave plm_rsh_agent and OMPI_MCA_plm_rsh_agent to Pushtrain; see `env` of train.yml",
    ),
    _known(
        r"ORTE was unable to reliably start one or more daemons|ORTE does not know how to route a message",
        "mpirun could not start its daemons on the other nodes",
        f"every node needs the same Open MPI, and a network to the first: {_NETWORK}",
    ),
    _known(
        r"None of the TCP networks specified|No network interfaces were found for out-of-band"
        r"|specified (?:for|in) the btl_tcp_if_include|Unable to find address for|Unknown interface name",
        "a network interface that was named is not there",
        f"look at `env` of train.yml for *_if_include, NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME; {_NETWORK}",
    ),
    _known(
        r"mpirun has detected an attempt to run as root|Running as root is \*strongly\* discouraged",
        "mpirun refuses to run as root",
        "set OMPI_ALLOW_RUN_AS_ROOT and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM to '1' in `env` of train.yml",
    ),
    # signals that the process or its shell told of
    _known(r"Illegal instruction|\(SIGILL\)", "an illegal instruction: it was built for another CPU", _CPU),
    _known(
        r"FATAL.{0,200}(?:compiled to use|requires) [\w ,]{0,100}instructions.{0,100}(?:CPU|machine)|requires AVX",
        "it was built for another CPU",
        _CPU,
    ),
    _known(
        r"Segmentation fault|Fatal Python error: Segmentation|\(SIGSEGV\)",
        "a segmentation fault",
        "set PYTHONFAULTHANDLER to '1' in `env` of train.yml: then the guilty line is named",
    ),
    # any exception
    _known(r"FileNotFoundError: .*No such file or directory: '([^']+)'", "there is no file {}"),
    _known(r"PermissionError: .*: '([^']+)'", "it may not open {}"),
)

# A rank that prints nothing worse died of another's failure, or waited for it in vain.
CONSEQUENCES = (
    _known(
        r"(?i)NCCL.*(?:timeout|timed out)|Watchdog caught collective operation",
        "the ranks lost each other (NCCL time-out)",
        _SLOW,
    ),
    _known(
        r"(?i)gloo.*timed out|Timed out waiting \d+ms for (?:recv|send)|Application timeout caused pair closure",
        "the ranks lost each other (Gloo time-out)",
        _SLOW,
    ),
    _known(
        r"Timed out after \d+ seconds waiting for clients\. (\d+/\d+) clients joined",
        "not all ranks met in time: {} came",
        _SLOW,
    ),
    _known(
        r"client socket has (?:timed out|failed).*connect to|RendezvousTimeoutError|RendezvousClosedError",
        "it could not reach the first rank",
        _NETWORK,
    ),
    _known(
        r"HorovodInternalError|HorovodShutdownError|Horovod has been shut down",
        "another rank ended first (Horovod was shut down)",
        _FIRST,
    ),
    _known(
        r"heartbeat timeout|stopped sending heartbeats|[Aa]nother task died|The tasks have crashed"
        r"|task is set to ERROR|[Cc]oordination ?[Ss]ervice|Barrier (?:failed|timed out)|Collective ops is aborted"
        r"|errors_impl\.(?:UnavailableError|AbortedError)|UNAVAILABLE: |DEADLINE_EXCEEDED: ",
        "another task was lost (its coordination service)",
        _FIRST,
    ),
    _known(
        r"remote process exited or there was a network error|ncclRemoteError|NCCL communicator was aborted",
        "another rank was lost (NCCL)",
        _FIRST,
    ),
    _known(
        r"MPI_ABORT was invoked|PMI[Xx].*(?:lost connection|LOST-CONNECTION|UNREACHABLE)|ORTE has lost communication"
        r"|lost communication with|mca_btl_tcp_endpoint|btl_tcp_\w+\.c.*failed|MPI_ERR_PROC_FAILED",
        "another rank was lost (Open MPI)",
        _FIRST,
    ),
    _known(
        r"(?i)connection (?:reset|closed|refused|aborted|was broken)|broken pipe|socket closed|ConnectionResetError"
        r"|failed to connect to all addresses|recvValue failed|failed to recv|store is shut ?down",
        "another rank was lost (its connection was closed)",
        _FIRST,
    ),
)

# How a process ended that printed nothing which tells why, by the signal's name.
SIGNALS = {
    "SIGKILL": OUTSIDE,
    "SIGTERM": "ended from outside",
    "SIGINT": "ended from outside",
    "SIGHUP": "ended from outside",
    "SIGILL": "an illegal instruction: it was built for another CPU",
    "SIGSEGV": "a segmentation fault",
    "SIGBUS": "a bus error: the shared memory (/dev/shm) may be full",
    "SIGFPE": "a division by zero in native code",
    "SIGABRT": "it ended itself in native code (abort)",
}

# What to change for causes that no text of a program tells.
FURTHER = (
    (KERNEL, _MEMORY),
    (OUTSIDE, _BY_WHOM),
    ("ended from outside", _BY_WHOM),
    (
        "GPUs were idle",
        "feed them faster, ask for fewer (`resources.gpu`), or set `policy.min_gpu_util` of train.yml lower",
    ),
    ("there is no program torchrun", "add torch to `environment.pip` of train.yml"),
)
