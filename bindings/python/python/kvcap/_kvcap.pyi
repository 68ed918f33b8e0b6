from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Protocol, Self, TypeAlias, final

from _typeshed import SupportsWrite
from typing_extensions import Buffer

class _Exports(Protocol):
    def __dlpack__(self) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

Memory: TypeAlias = Buffer | _Exports
Source: TypeAlias = str | PathLike[str] | Memory | Tensors
To: TypeAlias = str | PathLike[str] | SupportsWrite[memoryview]
Progress: TypeAlias = Callable[[int, int], object]
Judged: TypeAlias = str | tuple[str, int | None, int | None]
Setting: TypeAlias = str | int | PathLike[str] | Sequence[str | PathLike[str]] | None

class KvcapError(Exception):
    code: int
    name: str
    where: str | None
    expected: str | None
    found: str | None
    public: str

@final
class Profile:
    def __new__(cls, *, passphrase: str | None = None, **settings: Setting) -> Self: ...
    @staticmethod
    def load(name: str | None = None, *, passphrase: str | None = None, **settings: Setting) -> Profile: ...
    @staticmethod
    def create(
        name: str = "default", *, issuer: str | None = None, passphrase: str | None = None, **settings: Setting
    ) -> Profile: ...
    @property
    def name(self) -> str | None: ...
    @property
    def settings(self) -> dict[str, list[str]]: ...

@final
class Tensors:
    def __new__(
        cls, header: bytes, tensors: Sequence[tuple[Memory, int, int, Sequence[tuple[int, int]]]]
    ) -> Self: ...
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...

@final
class Verdict:
    id: str
    key: str
    issuer: str
    audience: str
    tenant: str | None
    subject: str | None
    expires: int
    judged_at: int
    model_id: str
    model_name: str
    runtime: tuple[str, str]
    positions: tuple[int, int]
    chain: list[str]
    session: tuple[str, int, int] | None
    unchecked: list[str]
    unaccepted: list[str]
    body: tuple[int, int] | None

@final
class Verifying:
    def __new__(
        cls,
        *,
        profile: Profile | None = None,
        accept_unchecked: Sequence[str] = (),
        session: Judged | None = None,
    ) -> Self: ...
    def feed(self, piece: Buffer) -> Verdict | None: ...
    def finish(self) -> Verdict: ...

@final
class Sealed:
    id: str
    capsule: bytes | None
    length: int
    state_length: int
    positions: tuple[int, int]
    expires: int
    notes: list[str]

@final
class Opened:
    verdict: Verdict
    state: bytearray | None
    length: int
    tokens: list[int] | None

@final
class Claims:
    id: str
    key: str
    issuer: str
    audience: str
    tenant: str | None
    subject: str | None
    scope: str
    issued_at: int
    expires: int
    renew_until: int
    single_use: bool
    session: tuple[str, int, int] | None
    model: tuple[str, str]
    runtime: tuple[str, str, str]
    positions: tuple[int, int]
    prompt: tuple[int, str]
    layers: int
    recipients: list[tuple[str, str]]
    parent: str | None
    length: int

@final
class Model:
    id: str
    weights: str
    config: str
    name: str
    vocabulary: str

@final
class Key:
    id: str
    public: str | None
    issuer: str | None
    public_path: Path | None

@final
class Registry:
    version: int
    root: str
    issued_at: int
    expires: int
    keys: list[str]
    revoked: list[str]

@final
class SessionManager:
    def __new__(cls, *, profile: Profile | None = None, folder: str | PathLike[str] | None = None) -> Self: ...
    def load_or_create(self, id: str, *, user: str | None = None) -> Session: ...
    def sessions(self, *, user: str | None = None) -> list[str]: ...

@final
class Session:
    @property
    def id(self) -> str: ...
    @property
    def token_count(self) -> int: ...
    @property
    def turns(self) -> int: ...
    @property
    def versions(self) -> list[int]: ...
    def events(self) -> list[tuple[int, str, str]]: ...
    def append(self, kind: str, text: str) -> int: ...
    def save(
        self,
        state: Source | None = None,
        to: To | None = None,
        *,
        tokens: Sequence[int] | None = None,
        runtime: str | None = None,
        runtime_version: str | None = None,
        progress: Progress | None = None,
    ) -> Checkpoint: ...
    def revert_to_turn(self, turn: int) -> Checkpoint: ...
    def resume(self, *, tokens: Sequence[int] | None = None, reserve: int = 0) -> Resumed: ...

@final
class Checkpoint:
    version: int
    at: int
    replay_cursor: int
    turns: int
    messages: int
    capsule: str | None
    token_count: int

@final
class Resumed:
    rung: str
    sentence: str
    code: int | None
    state: bytearray | None
    token_count: int
    events_after: int | None

def seal(
    state: Source,
    to: To | None = None,
    *,
    profile: Profile | None = None,
    tokens: Sequence[int] | None = None,
    danger_no_prefix: bool = False,
    runtime: str | None = None,
    runtime_version: str | None = None,
    compress: bool = False,
    history: bytes | None = None,
    agent_state: bytes | None = None,
    session: tuple[str, int, int] | None = None,
    sequence: int | None = None,
    single_use: bool = False,
    parent: str | PathLike[str] | None = None,
    chain: Sequence[str | PathLike[str]] = (),
    replace: bool = False,
    progress: Progress | None = None,
) -> Sealed: ...
def verify(
    source: Source,
    *,
    profile: Profile | None = None,
    header_only: bool = False,
    accept_unchecked: Sequence[str] = (),
    chain: Sequence[str | PathLike[str]] = (),
    session: Judged | None = None,
    dtypes: tuple[str, str] | None = None,
    progress: Progress | None = None,
) -> Verdict: ...
def open(
    source: Source,
    to: str | PathLike[str] | None = None,
    *,
    profile: Profile | None = None,
    tokens: Sequence[int] | None = None,
    layers: tuple[int, int] | None = None,
    positions: tuple[int, int] | None = None,
    accept_unchecked: Sequence[str] = (),
    chain: Sequence[str | PathLike[str]] = (),
    session: Judged | None = None,
    dtypes: tuple[str, str] | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Opened: ...
def inspect(source: Source) -> Claims: ...
def model_id(model: str | PathLike[str], **settings: Setting) -> Model: ...
def new_signing_key(
    path: str | PathLike[str], *, issuer: str | None = None, passphrase: str | None = None
) -> Key: ...
def new_wrapping_key(
    path: str | PathLike[str], *, kind: str = "symmetric", passphrase: str | None = None
) -> Key: ...
def read_public_key(key: str) -> Key: ...
def new_root_key(path: str | PathLike[str], *, passphrase: str | None = None) -> Key: ...
def create_registry(
    path: str | PathLike[str], *, root_key: str | PathLike[str], ttl: int, passphrase: str | None = None
) -> Registry: ...
def change_registry(
    path: str | PathLike[str],
    *,
    root_key: str | PathLike[str],
    add: Sequence[str | PathLike[str] | tuple[str | PathLike[str], str]] = (),
    retire: Sequence[str | PathLike[str]] = (),
    compromise: Sequence[str | PathLike[str]] = (),
    revoke: Sequence[str | PathLike[str]] = (),
    ttl: int | None = None,
    passphrase: str | None = None,
) -> Registry: ...
