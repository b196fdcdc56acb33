from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TransferKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[TransferKind]
    H2D: _ClassVar[TransferKind]
    D2H: _ClassVar[TransferKind]
    P2P: _ClassVar[TransferKind]
    STORAGE2H: _ClassVar[TransferKind]
    H2STORAGE: _ClassVar[TransferKind]
    H2H: _ClassVar[TransferKind]
    NET2H: _ClassVar[TransferKind]
    STORAGE2STORAGE: _ClassVar[TransferKind]

class DigestAlgorithm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIGEST_UNSPECIFIED: _ClassVar[DigestAlgorithm]
    SHA256: _ClassVar[DigestAlgorithm]
    BLAKE3: _ClassVar[DigestAlgorithm]

class KvPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KV_UNSPECIFIED: _ClassVar[KvPolicy]
    KV_FLUSH: _ClassVar[KvPolicy]
    KV_KEEP: _ClassVar[KvPolicy]
    KV_TRANSFORM: _ClassVar[KvPolicy]

class OptimizerPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPTIMIZER_UNSPECIFIED: _ClassVar[OptimizerPolicy]
    OPTIMIZER_PRESERVE: _ClassVar[OptimizerPolicy]
    OPTIMIZER_ATTENUATE: _ClassVar[OptimizerPolicy]
    OPTIMIZER_RESET: _ClassVar[OptimizerPolicy]
KIND_UNSPECIFIED: TransferKind
H2D: TransferKind
D2H: TransferKind
P2P: TransferKind
STORAGE2H: TransferKind
H2STORAGE: TransferKind
H2H: TransferKind
NET2H: TransferKind
STORAGE2STORAGE: TransferKind
DIGEST_UNSPECIFIED: DigestAlgorithm
SHA256: DigestAlgorithm
BLAKE3: DigestAlgorithm
KV_UNSPECIFIED: KvPolicy
KV_FLUSH: KvPolicy
KV_KEEP: KvPolicy
KV_TRANSFORM: KvPolicy
OPTIMIZER_UNSPECIFIED: OptimizerPolicy
OPTIMIZER_PRESERVE: OptimizerPolicy
OPTIMIZER_ATTENUATE: OptimizerPolicy
OPTIMIZER_RESET: OptimizerPolicy

class Plan(_message.Message):
    __slots__ = ("schema_version", "plan_id", "label", "producer", "created_ns", "parent", "cache", "swap")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    SWAP_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    plan_id: str
    label: str
    producer: str
    created_ns: int
    parent: Digest
    cache: CachePlan
    swap: SwapPlan
    def __init__(self, schema_version: _Optional[int] = ..., plan_id: _Optional[str] = ..., label: _Optional[str] = ..., producer: _Optional[str] = ..., created_ns: _Optional[int] = ..., parent: _Optional[_Union[Digest, _Mapping]] = ..., cache: _Optional[_Union[CachePlan, _Mapping]] = ..., swap: _Optional[_Union[SwapPlan, _Mapping]] = ...) -> None: ...

class CachePlan(_message.Message):
    __slots__ = ("plan_id", "ops", "prefetch", "evict", "window_ms", "now_ns", "admission", "rejected")
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    EVICT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    NOW_NS_FIELD_NUMBER: _ClassVar[int]
    ADMISSION_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    ops: _containers.RepeatedCompositeFieldContainer[TransferOp]
    prefetch: _containers.RepeatedCompositeFieldContainer[KvPageRef]
    evict: _containers.RepeatedCompositeFieldContainer[KvPageRef]
    window_ms: int
    now_ns: int
    admission: _containers.RepeatedCompositeFieldContainer[KvPageRef]
    rejected: _containers.RepeatedCompositeFieldContainer[Rejected]
    def __init__(self, plan_id: _Optional[str] = ..., ops: _Optional[_Iterable[_Union[TransferOp, _Mapping]]] = ..., prefetch: _Optional[_Iterable[_Union[KvPageRef, _Mapping]]] = ..., evict: _Optional[_Iterable[_Union[KvPageRef, _Mapping]]] = ..., window_ms: _Optional[int] = ..., now_ns: _Optional[int] = ..., admission: _Optional[_Iterable[_Union[KvPageRef, _Mapping]]] = ..., rejected: _Optional[_Iterable[_Union[Rejected, _Mapping]]] = ...) -> None: ...

class SwapPlan(_message.Message):
    __slots__ = ("plan_id", "to", "ops", "window", "deletes", "adds", "shared", "commit_group", "rollback_to", "kv_policy", "optimizer_policy", "total_bytes", "bucket_bytes")
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    DELETES_FIELD_NUMBER: _ClassVar[int]
    ADDS_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    COMMIT_GROUP_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_TO_FIELD_NUMBER: _ClassVar[int]
    KV_POLICY_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_POLICY_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUCKET_BYTES_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    to: WeightManifest
    ops: _containers.RepeatedCompositeFieldContainer[TransferOp]
    window: SwapWindow
    deletes: _containers.RepeatedCompositeFieldContainer[FileChunk]
    adds: _containers.RepeatedCompositeFieldContainer[FileChunk]
    shared: _containers.RepeatedCompositeFieldContainer[FileChunk]
    commit_group: str
    rollback_to: Digest
    kv_policy: KvPolicy
    optimizer_policy: OptimizerPolicy
    total_bytes: int
    bucket_bytes: int
    def __init__(self, plan_id: _Optional[str] = ..., to: _Optional[_Union[WeightManifest, _Mapping]] = ..., ops: _Optional[_Iterable[_Union[TransferOp, _Mapping]]] = ..., window: _Optional[_Union[SwapWindow, _Mapping]] = ..., deletes: _Optional[_Iterable[_Union[FileChunk, _Mapping]]] = ..., adds: _Optional[_Iterable[_Union[FileChunk, _Mapping]]] = ..., shared: _Optional[_Iterable[_Union[FileChunk, _Mapping]]] = ..., commit_group: _Optional[str] = ..., rollback_to: _Optional[_Union[Digest, _Mapping]] = ..., kv_policy: _Optional[_Union[KvPolicy, str]] = ..., optimizer_policy: _Optional[_Union[OptimizerPolicy, str]] = ..., total_bytes: _Optional[int] = ..., bucket_bytes: _Optional[int] = ..., **kwargs) -> None: ...

class WeightManifest(_message.Message):
    __slots__ = ("model_id", "version", "files")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    version: str
    files: _containers.RepeatedCompositeFieldContainer[FileChunk]
    def __init__(self, model_id: _Optional[str] = ..., version: _Optional[str] = ..., files: _Optional[_Iterable[_Union[FileChunk, _Mapping]]] = ...) -> None: ...

class FileChunk(_message.Message):
    __slots__ = ("path", "offset", "length", "sha256", "digest", "tensor")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    path: str
    offset: int
    length: int
    sha256: str
    digest: Digest
    tensor: TensorSpan
    def __init__(self, path: _Optional[str] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., sha256: _Optional[str] = ..., digest: _Optional[_Union[Digest, _Mapping]] = ..., tensor: _Optional[_Union[TensorSpan, _Mapping]] = ...) -> None: ...

class TensorSpan(_message.Message):
    __slots__ = ("name", "dtype", "shape", "begin", "end")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    begin: int
    end: int
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., begin: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class SwapWindow(_message.Message):
    __slots__ = ("t_start_ns", "t_deadline_ns")
    T_START_NS_FIELD_NUMBER: _ClassVar[int]
    T_DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    t_start_ns: int
    t_deadline_ns: int
    def __init__(self, t_start_ns: _Optional[int] = ..., t_deadline_ns: _Optional[int] = ...) -> None: ...

class KvPageRef(_message.Message):
    __slots__ = ("tensor", "page", "head", "layer", "model", "node", "tier", "page_count", "page_bytes")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    PAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    tensor: str
    page: int
    head: int
    layer: int
    model: Digest
    node: str
    tier: int
    page_count: int
    page_bytes: int
    def __init__(self, tensor: _Optional[str] = ..., page: _Optional[int] = ..., head: _Optional[int] = ..., layer: _Optional[int] = ..., model: _Optional[_Union[Digest, _Mapping]] = ..., node: _Optional[str] = ..., tier: _Optional[int] = ..., page_count: _Optional[int] = ..., page_bytes: _Optional[int] = ...) -> None: ...

class TransferOp(_message.Message):
    __slots__ = ("kind", "src", "dst", "length", "src_offset", "dst_offset", "kv_refs", "note", "op_id", "deps", "lane", "deadline_ns", "priority", "tenant", "digest", "codec", "encoded_length", "src_digest", "fanout", "overlap", "sink")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SRC_FIELD_NUMBER: _ClassVar[int]
    DST_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    SRC_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    KV_REFS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    OP_ID_FIELD_NUMBER: _ClassVar[int]
    DEPS_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    ENCODED_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SRC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FANOUT_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    SINK_FIELD_NUMBER: _ClassVar[int]
    kind: TransferKind
    src: str
    dst: str
    length: int
    src_offset: int
    dst_offset: int
    kv_refs: _containers.RepeatedCompositeFieldContainer[KvPageRef]
    note: str
    op_id: str
    deps: _containers.RepeatedScalarFieldContainer[str]
    lane: str
    deadline_ns: int
    priority: int
    tenant: str
    digest: Digest
    codec: str
    encoded_length: int
    src_digest: Digest
    fanout: int
    overlap: int
    sink: str
    def __init__(self, kind: _Optional[_Union[TransferKind, str]] = ..., src: _Optional[str] = ..., dst: _Optional[str] = ..., length: _Optional[int] = ..., src_offset: _Optional[int] = ..., dst_offset: _Optional[int] = ..., kv_refs: _Optional[_Iterable[_Union[KvPageRef, _Mapping]]] = ..., note: _Optional[str] = ..., op_id: _Optional[str] = ..., deps: _Optional[_Iterable[str]] = ..., lane: _Optional[str] = ..., deadline_ns: _Optional[int] = ..., priority: _Optional[int] = ..., tenant: _Optional[str] = ..., digest: _Optional[_Union[Digest, _Mapping]] = ..., codec: _Optional[str] = ..., encoded_length: _Optional[int] = ..., src_digest: _Optional[_Union[Digest, _Mapping]] = ..., fanout: _Optional[int] = ..., overlap: _Optional[int] = ..., sink: _Optional[str] = ...) -> None: ...

class Digest(_message.Message):
    __slots__ = ("algorithm", "value")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    algorithm: DigestAlgorithm
    value: bytes
    def __init__(self, algorithm: _Optional[_Union[DigestAlgorithm, str]] = ..., value: _Optional[bytes] = ...) -> None: ...

class Rejected(_message.Message):
    __slots__ = ("request", "reason", "detail")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    request: str
    reason: str
    detail: str
    def __init__(self, request: _Optional[str] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...
