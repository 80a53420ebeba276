"""Confines a process of the sandbox: limits, a count of files, and system calls that it may not make.

Runs in the bare interpreter before `inside.py`, in the same namespace. The limits of a process do not count what the kernel
keeps for it: shared memory, memory files, message queues, keys, the buffers of sockets that wait for a connection. So the
system calls that create these are denied, with those that make namespaces or reach into other processes.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DENIED = {
    "x86_64": (0xC000003E, 41, (29, 30, 50, 64, 68, 101, 165, 240, 248, 249, 250, 253, 272, 294, 298, 300, 308, 310, 311, 312,
                                319, 321, 323, 425, 430, 438, 447)),
    "aarch64": (0xC00000B7, 198, (194, 196, 201, 190, 186, 117, 40, 180, 217, 218, 219, 26, 97, 241, 262, 268, 270, 271, 272,
                                  279, 280, 282, 425, 430, 438, 447)),
}  # fmt: skip
"""By processor: its number in a filter, the number of `socket`, and those of `shmget`, `shmat`, `listen`, `semget`, `msgget`,
`ptrace`, `mount`, `mq_open`, `add_key`, `request_key`, `keyctl`, `inotify_init` (x86), `unshare`, `inotify_init1`,
`perf_event_open`, `fanotify_init`, `setns`, `process_vm_readv`, `process_vm_writev`, `kcmp`, `memfd_create`, `bpf`,
`userfaultfd`, `io_uring_setup`, `fsopen`, `pidfd_getfd` and `memfd_secret`."""
CLONE3 = 435
"""Denied as if the kernel did not know it, because its flags cannot be filtered; the C library then uses `clone`."""
AF_UNIX = 1
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
MS_NOSUID, MS_NODEV, MS_REMOUNT = 2, 4, 32


def confine(uid: int, cpu: int, memory: int, file: int, files: int, scratch_files: int) -> None:
    """Set limits that the process and its children cannot raise.

    Args:
        uid: The user to become, where this is root; processes are limited per user. 0: stay who this is.
        cpu: Seconds of CPU time.
        memory: Bytes of address space.
        file: Size of one file, in bytes.
        files: Number of open files.
        scratch_files: Number of files in /tmp, which is a file system of this sandbox; 0 if it is not.
    """
    import ctypes
    import resource  # missing on Windows, where the toolkit uses only `dump` and `load` of `inside.py`

    library = ctypes.CDLL(None, use_errno=True)
    if scratch_files:
        _limit_files(library, scratch_files)
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _check(library.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()))
    os.umask(0o077)
    for name, value, hard in (
        ("RLIMIT_CPU", cpu, cpu + 1),
        ("RLIMIT_AS", memory, memory),
        ("RLIMIT_FSIZE", file, file),
        ("RLIMIT_NOFILE", files, files),
        ("RLIMIT_NPROC", 1, 1),
        ("RLIMIT_CORE", 0, 0),
        ("RLIMIT_MEMLOCK", 0, 0),
        ("RLIMIT_MSGQUEUE", 0, 0),
        ("RLIMIT_SIGPENDING", 64, 64),  # timers count too
    ):
        resource.setrlimit(getattr(resource, name), (value, hard))
    _check(library.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))  # so that no other process of this user opens its descriptors
    _check(library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _deny_system_calls(library)


def _check(result: int) -> None:
    """Raise an error if a call of the C library failed."""
    if result:
        import ctypes

        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _limit_files(library: Any, number: int) -> None:
    """Limit the number of files in /tmp, of which bubblewrap limits the size only."""
    _check(library.mount(None, b"/tmp", None, MS_REMOUNT | MS_NOSUID | MS_NODEV, b"nr_inodes=%d" % number))


def _filter(processor: int, socket: int, denied: tuple[int, ...]) -> bytes:
    """Return the filter of system calls, in classic BPF: deny some, and sockets that are not pairs within the process."""
    import struct

    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06
    tests = [(equal, "deny", number) for number in denied] + [(equal, "unknown", CLONE3)]
    if processor == DENIED["x86_64"][0]:
        tests.insert(0, (at_least, "deny", 1 << 30))  # the numbers of its 32-bit mode
    statements = [(load, "", "", 4), (equal, "", "kill", processor), (load, "", "", 0)]
    statements += [(code, target, "", number) for code, target, number in tests]
    statements += [(equal, "", "allow", socket), (load, "", "", 16), (equal, "allow", "deny", AF_UNIX)]
    ends = {"allow": 0x7FFF0000, "deny": 0x00050000 | 1, "unknown": 0x00050000 | 38, "kill": 0x80000000}
    places = {target: len(statements) + n for n, target in enumerate(ends)}
    lines = [
        struct.pack("HBBI", code, *(places[target] - n - 1 if target else 0 for target in (yes, no)), value)
        for n, (code, yes, no, value) in enumerate(statements)
    ]
    return b"".join(lines + [struct.pack("HBBI", end, 0, 0, value) for value in ends.values()])


def _deny_system_calls(library: Any) -> None:
    """Install the filter; there is none for other processors than those of `DENIED`."""
    import ctypes
    import struct

    if os.uname().machine in DENIED:
        program = ctypes.create_string_buffer(_filter(*DENIED[os.uname().machine]))
        header = struct.pack("HP", (len(program) - 1) // 8, ctypes.addressof(program))
        _check(library.prctl(PR_SET_SECCOMP, 2, header, 0, 0))
